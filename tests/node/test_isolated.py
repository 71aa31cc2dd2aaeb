"""Roles in processes of their own, without a node: what the agent does for them, and how they end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from orchestrator.node.channel import MAX_MESSAGE, ChannelError, Decoder, encode
from orchestrator.node.isolated import _Printed, _sudden_end


def test_messages_are_cut_where_they_end() -> None:
    decoder = Decoder()
    data = encode("report", {"a": 1}) + encode("log", "info", "é")
    found: list[tuple[str, list[Any]]] = []
    for byte in data:
        found += decoder.feed(bytes([byte]))
    assert found == [("report", [{"a": 1}]), ("log", ["info", "é"])]


@pytest.mark.parametrize(
    "data",
    [
        (MAX_MESSAGE + 1).to_bytes(4, "little"),
        b"\x01\0\0\0\xc1",
        b"\x01\0\0\0\x90",
        b"\x02\0\0\0\x91\x01",
    ],
    ids=["too large", "no msgpack", "empty", "no kind"],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ChannelError):
        list(Decoder().feed(data))


def test_the_end_of_a_process_is_said_in_words() -> None:
    assert _sudden_end(-6) == "the role's process was ended by SIGABRT"
    assert _sudden_end(-64) == "the role's process was ended by SIGRTMAX"
    assert _sudden_end(3) == "the role's process exited with code 3 before the role had ended"


def test_a_character_that_comes_in_two_parts_is_printed_whole() -> None:
    to = io.StringIO()
    printed = _Printed(to)
    for data in (b"a\xc3", b"\xa9b", b"\xe2\x82", b""):
        printed.feed(data)
    assert to.getvalue() == "aéb\ufffd"


def test_isolation_is_read_for_all_roles_and_for_one(tmp_path: Path) -> None:
    from orchestrator import scenario
    from orchestrator.errors import ScenarioInvalid

    text = "name: mine\nisolation: process\nroles:\n  a: {nodes: 1}\n  b: {nodes: 2, isolation: thread}\n"
    (tmp_path / "roles.py").write_text("def a(ctx): ...\ndef b(ctx): ...\n")
    (tmp_path / "scenario.yaml").write_text(text)
    read = scenario.load(tmp_path)
    assert {name: role.isolated for name, role in read.roles.items()} == {"a": True, "b": False}
    (tmp_path / "scenario.yaml").write_text(text.replace("isolation: process", "isolation: container"))
    with pytest.raises(ScenarioInvalid, match="isolation"):
        scenario.load(tmp_path)
