"""Test the permissions of a command in a native node."""

from __future__ import annotations

import os

import pytest

from orchestrator.deploy import node_command
from orchestrator.errors import HostNotFit, UsageError


def test_a_command_is_root_s_unless_said_otherwise() -> None:
    assert node_command.become(None) == []


def test_a_user_of_the_machine_is_found_by_name_and_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert node_command.become("root") == node_command.become("0")
    assert node_command.become("0") == ["setpriv", "--reuid=0", "--regid=0", "--init-groups", "--"]


def test_an_unknown_user_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(UsageError) as caught:
        node_command.become("no; such")
    assert (caught.value.id, caught.value.found) == ("exec.no-user", "no; such")


def test_a_rootless_lab_has_no_other_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(HostNotFit) as caught:
        node_command.become("root")
    assert caught.value.id == "exec.user"
