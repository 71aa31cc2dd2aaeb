"""Test the encoding against the vectors that Rust uses, too."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.protocol import (
    MAX_MESSAGE,
    MESSAGES,
    VERSION,
    Bad,
    Frame,
    decode_batch,
    decode_frames,
    encode,
)
from orchestrator.protocol.schema import encode_body

VECTORS = Path(__file__).parent.parent / "vectors"


def load(name: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads((VECTORS / f"{name}.json").read_text())
    return entries


@pytest.mark.parametrize("entry", load("good"), ids=lambda entry: str(entry["name"]))
def test_a_message_has_these_bytes(entry: dict[str, Any]) -> None:
    data = (VECTORS / "good" / f"{entry['name']}.bin").read_bytes()
    [frame] = decode_frames(data)
    assert described(frame) == {key: entry[key] for key in ("id", "node", "type", "body")}
    assert encode(frame) == data


@pytest.mark.parametrize("entry", load("bad"), ids=lambda entry: str(entry["name"]))
def test_a_wrong_message_is_named_and_does_not_affect_other_frames(entry: dict[str, Any]) -> None:
    items = decode_batch((VECTORS / "bad" / f"{entry['name']}.bin").read_bytes())
    assert [outcome(item) for item in items] == entry["items"]


@pytest.mark.parametrize("entry", load("read"), ids=lambda entry: str(entry["name"]))
def test_an_unusual_message_is_understood(entry: dict[str, Any]) -> None:
    [frame] = decode_frames((VECTORS / "read" / f"{entry['name']}.bin").read_bytes())
    assert described(frame) == {key: entry[key] for key in ("id", "node", "type", "body")}


def test_every_message_has_a_vector() -> None:
    assert {entry["type"] for entry in load("good")} == set(MESSAGES)


def test_the_limits_are_the_ones_written_down() -> None:
    limits = json.loads((VECTORS / "limits.json").read_text())
    assert limits == {"version": VERSION, "max_message": MAX_MESSAGE}


def described(frame: Frame) -> dict[str, Any]:
    body = plain(encode_body(frame.message))
    return {"id": frame.id, "node": frame.node, "type": frame.message.type, "body": body}


def outcome(item: Frame | Bad) -> dict[str, Any]:
    if isinstance(item, Frame):
        return {"type": item.message.type}
    return {"id": item.id, "node": item.node, "error": item.error.id}


def plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return plain(encode_body(value))
    if isinstance(value, bytes):
        return {"$bytes": value.hex()}
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value
