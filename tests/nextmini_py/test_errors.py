"""Test the error tree: root, ids, base classes, pickling."""

from __future__ import annotations

import pickle

import pytest

import nextmini_py
from nextmini_py import errors

CLASSES = [getattr(errors, name) for name in errors.__all__]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: str(cls.__name__))
def test_every_class_is_in_the_tree_and_in_the_public_api(cls: type[errors.NextminiError]) -> None:
    assert issubclass(cls, errors.NextminiError)
    assert getattr(nextmini_py, cls.__name__) is cls


def test_ids_are_unique() -> None:
    ids = [cls.id for cls in CLASSES]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: str(cls.__name__))
def test_errors_survive_pickling_and_read_as_their_sentence(cls: type[errors.NextminiError]) -> None:
    error = cls("what failed", id="some.id", hint="fix it")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert (str(again), again.id, again.hint) == ("what failed", "some.id", "fix it")


def test_ordinary_except_clauses_meet_them() -> None:
    assert issubclass(errors.UnknownSession, KeyError)
    assert issubclass(errors.ControllerUnreachable, ConnectionError)
    assert issubclass(errors.RequestTimeout, TimeoutError)
    assert issubclass(errors.MessageTooLarge, ValueError)
