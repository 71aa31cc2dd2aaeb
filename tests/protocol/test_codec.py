"""Test encoding and decoding of frames with arbitrary input."""

from __future__ import annotations

import os
from typing import Any

import msgpack
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.impairment import LinkSpec
from orchestrator.protocol import (
    MAX_MESSAGE,
    MESSAGES,
    Admission,
    Bad,
    Frame,
    Malformed,
    Oversized,
    Peer,
    Refused,
    Requests,
    Role,
    UnknownType,
    Unsendable,
    WrongVersion,
    batches,
    decode_batch,
    decode_frames,
    encode,
    node_token,
    permitted,
)
from orchestrator.protocol import messages as m

# `scripts/fuzz_values.py` raises it.
EXAMPLES = int(os.environ.get("NM_FUZZ_EXAMPLES", "100"))


def nested(depth: int) -> Any:
    value: Any = None
    for _ in range(depth):
        value = [value]
    return value


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text() | st.integers(0, 9), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.binary(max_size=300))
@example(b"\x91" * 2000)  # arrays inside each other
@example(b"\x95\x01\x05\x03\xa3Ack\x82\xa2re\x01\xa2re\x02")  # a key twice
@example(b"\x95\x01\x05\x03\xa3Ack\x81\x90\x01")  # a list as a key
@example(b"\x95\x01\x05\x03\xa2\xff\xfe\x80")  # no UTF-8
@example(b"\x95\xd6\xff\x00\x00\x00\x00\x05\x03\xa3Ack\x80")  # a time as the version
@example(b"\xdd\xff\xff\xff\xff")  # an array of four thousand million
@example(b"\xdb\xff\xff\xff\xffabc")
def test_arbitrary_bytes_never_crash_the_decoder(data: bytes) -> None:
    assert all(isinstance(item, Frame | Bad) for item in decode_batch(data))


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.sampled_from(sorted(MESSAGES)), VALUES)
@example("Ack", nested(400))
@example("Publish", {"run": "r", "node": 1, "key": "k", "value": nested(400)})
@example("Publish", {"run": "r", "node": 1, "key": nested(400), "value": 1})
@example("Publish", {"run": "r", "node": nested(400), "key": "k", "value": 1})
def test_a_body_of_any_kind_is_a_message_or_named_as_wrong(kind: str, body: Any) -> None:
    [item] = decode_batch(msgpack.packb([1, 5, 3, kind, body]))
    assert isinstance(item, Frame) or (item.id, item.node) == (5, 3)


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.sampled_from(sorted(MESSAGES)), st.data())
def test_a_field_of_any_kind_is_taken_or_named_as_wrong(kind: str, data: st.DataObject) -> None:
    names = list(MESSAGES[kind].__dataclass_fields__)
    body = {name: data.draw(VALUES) for name in names}
    [item] = decode_batch(msgpack.packb([1, 5, 3, kind, body]))
    if isinstance(item, Bad):
        assert item.error.id == "protocol.body" and kind in item.error.message
    else:
        assert decode_frames(encode(item))[0].message.type == kind


@settings(deadline=None, max_examples=EXAMPLES)
@given(st.lists(st.integers(1, 100_000), max_size=30))
def test_batches_keep_order_and_stay_small(sizes: list[int]) -> None:
    pieces = [bytes([index % 256]) * size for index, size in enumerate(sizes)]
    joined = list(batches(pieces))
    assert b"".join(joined) == b"".join(pieces)
    assert all(len(batch) <= 256 * 1024 for batch in joined)


def test_a_message_too_large_to_send_is_refused_here_and_not_there() -> None:
    files = {"big": bytes(MAX_MESSAGE)}
    with pytest.raises(Oversized, match="PrepareRun"):
        encode(Frame(m.PrepareRun("r", "s", files, "roles.py", {}, 0, {}, {}, 1.0)))


@pytest.mark.parametrize(
    "spec", [{"loss": 1.5}, {"loss": float("nan")}, {"rate_bps": 0}, {"delay_us": "5"}, 7]
)
def test_impairments_outside_their_range_are_refused(spec: Any) -> None:
    body = {"remote_node_id": 2, "link": spec, "version": 1}
    [item] = decode_batch(msgpack.packb([1, 0, 3, "SetLink", body]))
    assert isinstance(item, Bad) and item.error.id == "protocol.body"


def test_impairments_without_any_field_are_a_plain_link() -> None:
    [frame] = decode_frames(encode(Frame(m.SetLink(2, LinkSpec(), 1))))
    assert isinstance(frame.message, m.SetLink) and frame.message.link.is_plain


def test_only_the_right_token_of_the_right_role_opens() -> None:
    admission, n = Admission("key", "o"), node_token("key", 3)
    assert admission.admit(Frame(m.Hello(n, 1, "node", "x", 9), 3)) == Peer(Role.NODE, "x", 9, 3)
    assert admission.admit(Frame(m.Hello("o", 1, "operator"), 3)) == Peer(Role.OPERATOR, "", 0, 0)
    for hello, error in [
        (m.Hello("o", 1, "node"), Refused),
        (m.Hello("", 1, "agent"), Refused),
        (m.Hello("", 1, "controller"), Refused),
        (m.Hello(n, 1, "nobody"), Refused),
        (m.Hello(n, 1, "operator"), Refused),
        (m.Hello("key", 1, "node"), Refused),
        (m.Hello(node_token("key", 4), 1, "node"), Refused),
        (m.Hello(node_token("another key", 3), 1, "agent"), Refused),
        (m.Hello(n, 2, "node"), WrongVersion),
        (m.GetStatus(), Malformed),
    ]:
        with pytest.raises(error):
            admission.admit(Frame(hello, 3))


def test_nobody_is_admitted_as_node_0_or_where_there_is_no_key() -> None:
    for admission, node in [(Admission("key", "o"), 0), (Admission("", "o"), 1)]:
        with pytest.raises(Refused):
            admission.admit(Frame(m.Hello(node_token("key" if not node else "", node), 1, "node"), node))


@pytest.mark.parametrize("role", [Role.NODE, Role.AGENT, Role.OPERATOR])
def test_a_role_may_send_what_is_its_own_and_nothing_else(role: Role) -> None:
    allowed = set()
    for name, cls in MESSAGES.items():
        message = object.__new__(cls)
        try:
            permitted(role, message)
        except (Refused, UnknownType):
            continue
        allowed.add(name)
    assert "Hello" not in allowed and {"Ack", "Error", "Goodbye"} <= allowed
    assert allowed == {name for name, cls in MESSAGES.items() if role in cls.SENDERS} - {"Hello"}
    assert not any({Role.CONTROLLER} == MESSAGES[name].SENDERS for name in allowed)


def test_request_numbers_wrap_and_never_are_0() -> None:
    requests: Requests[str] = Requests()
    requests._next = 2**32 - 1
    assert requests.open("last") == 2**32 - 1
    assert requests.open("first") == 1
    assert (requests.close(1), requests.close(1), len(requests)) == ("first", None, 1)
    assert requests.close_all() == ["last"]


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4])
def test_a_frame_with_any_part_nested_deeply_is_named_as_wrong(at: int) -> None:
    parts: list[Any] = [1, 5, 3, "Ack", {"re": 1}]
    parts[at] = nested(900)
    assert all(isinstance(item, Bad) for item in decode_batch(msgpack.packb(parts)))


@pytest.mark.parametrize(
    ("message", "field", "says"),
    [
        (m.Publish("r", 1, "k" * 6000, 1), "Publish.key", "1024 bytes"),
        (m.Publish("r", 1, "", 1), "Publish.key", "empty"),
        (m.Publish("r", 1, "a\0", 1), "Publish.key", "character 0"),
        (m.Publish("r", 1, "k", float("nan")), "Publish.value", "nan"),
        (m.Publish("r", 1, "k", nested(33)), "Publish.value", "nested"),
        (m.Publish("r", 1, "k", "x" * 2**20), "Publish.value", "1048576 bytes"),
        (m.RoleReport("r", 1, "a", 1, {"a": b"x"}), "RoleReport.row", "bytes"),
        (m.RoleReport("r", 1, "a", 1, {"a": "x\0"}), "RoleReport.row", "character 0"),
        (m.RoleReport("r", 1, "a", 1, {1: 2}), "RoleReport.row", "the key 1"),  # type: ignore[dict-item]
        (m.BarrierEnter("r", 1, "n" * 2000, 1), "BarrierEnter.name", "1024 bytes"),
        (m.CreateGroup("l" * 2000), "CreateGroup.label", "1024 bytes"),
        (m.LeaveGroup(2**32), "LeaveGroup.group_id", "between 0 and 4294967295"),
        (m.RoleFinished("r", 1, "a", False, "e" * 2**21), "RoleFinished.error", "1048576 bytes"),
    ],
)
def test_what_could_not_be_stored_is_refused_where_it_enters(
    message: m.Message, field: str, says: str
) -> None:
    [item] = decode_batch(encode(Frame(message, 1, 5)))
    assert isinstance(item, Bad) and item.id == 5
    assert field in item.error.message and says in item.error.message


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", object(), nested(2000)])
def test_what_msgpack_cannot_hold_is_named_and_not_sent(value: Any) -> None:
    with pytest.raises(Unsendable, match="Publish cannot be sent"):
        encode(Frame(m.Publish("r", 1, "k", value)))
