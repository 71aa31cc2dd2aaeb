"""Encode frames to bytes and decode them.

A websocket message holds one or more frames, one after the other, so that a thousand small messages cost few
system calls. A frame is a msgpack array of five: version, id, node, type, body.

A frame that is well-formed msgpack but otherwise invalid does not affect the frames around it. `decode_batch`
returns it as a `Bad`, with as much of its header as could be read, so that the peer can be answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import msgpack

from orchestrator.protocol.errors import (
    Malformed,
    Oversized,
    ProtocolError,
    Truncated,
    UnknownType,
    Unsendable,
    WrongVersion,
)
from orchestrator.protocol.messages import MESSAGES, Message
from orchestrator.protocol.schema import decode_body, encode_body
from orchestrator.values import brief

__all__ = [
    "MAX_FIRST_MESSAGE",
    "MAX_MESSAGE",
    "VERSION",
    "Bad",
    "Frame",
    "Payload",
    "batches",
    "decode_batch",
    "decode_frames",
    "encode",
    "encode_payload",
]

VERSION = 1
"""The protocol's version; a frame of another one is refused."""

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes that one websocket message may have; a scenario's files are the largest thing that travels."""

MAX_FIRST_MESSAGE = 16 * 1024
"""Bytes of a message from a peer that has not shown its token; `Hello` has a few hundred."""

MAX_HEADER = 16
"""Bytes of a frame before its type: the array, the version, and two numbers of 32 bits."""

BATCH = 256 * 1024
"""Where a batch is closed: large enough to amortise the call, small enough to keep others waiting briefly."""

MAX_BAD = 64
"""Wrong frames in one websocket message after which the rest of it is not read."""

SAME_RELEASE = "use the same nm release on both sides"

_U32 = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Frame:
    """A message with its header.

    Attributes:
        message: What is said.
        node: The node it concerns, 0 for the connection.
        id: The sender's request number, 0 when no reply is wanted.
    """

    message: Message
    node: int = 0
    id: int = 0


@dataclass(frozen=True, slots=True)
class Bad:
    """A frame that could not be understood, with what could be read of its header."""

    error: ProtocolError
    node: int = 0
    id: int = 0


@dataclass(frozen=True, slots=True)
class Payload:
    """A message's bytes without its header, for one that is kept until it can be sent, or sent again.

    Attributes:
        type: The message's type on the wire.
        data: Type and body.
    """

    type: str
    data: bytes

    def frame(self, node: int = 0, id: int = 0) -> bytes:
        """Return a frame's bytes."""
        return b"\x95" + _pack(VERSION) + _pack(id) + _pack(node) + self.data


def encode_payload(message: Message) -> Payload:
    """Return a message's bytes.

    Raises:
        Oversized: It is larger than a websocket message may be.
        Unsendable: It holds something that msgpack cannot.
    """
    kind = message.type
    try:
        data = _pack(kind) + _pack(message)
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        # UnicodeEncodeError is a ValueError: half of a surrogate pair in a text.
        raise Unsendable(f"{kind} cannot be sent: {brief(str(error))}") from None
    if len(data) + MAX_HEADER > MAX_MESSAGE:
        raise Oversized(
            f"{kind} has {len(data)} bytes, but a control message may have {MAX_MESSAGE - MAX_HEADER}",
            found=str(len(data)),
            expected=f"at most {MAX_MESSAGE - MAX_HEADER}",
        )
    return Payload(kind, data)


def encode(frame: Frame) -> bytes:
    """Return a frame's bytes.

    Raises:
        Oversized: The frame alone is larger than a websocket message may be.
        Unsendable: It holds something that msgpack cannot.
    """
    return encode_payload(frame.message).frame(frame.node, frame.id)


def _pack(value: Any) -> bytes:
    data: bytes = msgpack.packb(value, use_bin_type=True, default=encode_body)
    return data


def batches(encoded: Iterable[bytes]) -> Iterator[bytes]:
    """Join encoded frames into websocket messages, in order, none of them too large."""
    batch: list[bytes] = []
    size = 0
    for data in encoded:
        if batch and size + len(data) > BATCH:
            yield b"".join(batch)
            batch, size = [], 0
        batch.append(data)
        size += len(data)
    if batch:
        yield batch[0] if len(batch) == 1 else b"".join(batch)


def decode_frames(data: bytes) -> list[Frame]:
    """Return the frames of a websocket message.

    Raises:
        ProtocolError: Any of them is wrong; use `decode_batch` to keep the others.
    """
    frames: list[Frame] = []
    for item in decode_batch(data):
        if isinstance(item, Bad):
            raise item.error
        frames.append(item)
    return frames


def decode_batch(data: bytes, limit: int = MAX_MESSAGE) -> list[Frame | Bad]:
    """Return the frames of a websocket message, with a `Bad` in the place of each wrong one.

    When the bytes stop making sense the last item is a `Bad`; nothing after that point can be found again.
    The same holds after many wrong frames: a peer that sends mostly invalid data is not read to the end.

    Args:
        data: The message.
        limit: Bytes that it may have. Reading takes some 70 times as many at worst (empty lists).
    """
    if len(data) > limit:
        text = f"the message has {len(data)} bytes, but {limit} are allowed"
        return [Bad(Oversized(text, found=str(len(data)), expected=f"at most {limit}"))]
    if not data:
        return [Bad(Malformed("the message is empty"))]
    unpacker = msgpack.Unpacker(max_buffer_size=MAX_MESSAGE, strict_map_key=False, raw=False)
    unpacker.feed(data)
    frames: list[Frame | Bad] = []
    end = bad = 0
    while end < len(data) and bad < MAX_BAD:
        try:
            parts = unpacker.unpack()
        except msgpack.OutOfData:
            text = f"the message ends inside a frame, {len(data) - end} bytes after its beginning"
            return [*frames, Bad(Truncated(text))]
        except Exception as error:  # msgpack raises ValueError and its kin for every kind of invalid input
            return [*frames, Bad(Malformed(f"the message is not msgpack at byte {end}: {error}"))]
        if type(parts) is not list or not parts:
            text = "a frame is an array of version, id, node, type and body"
            return [*frames, Bad(Malformed(text))]
        end = unpacker.tell()
        frame = _frame(parts)
        frames.append(frame)
        bad += isinstance(frame, Bad)
    return frames


def _frame(parts: list[Any]) -> Frame | Bad:
    try:
        return _message(parts)
    except ProtocolError as error:
        # Whatever is wrong with it, the peer's request should be answered by number if that can be read.
        return Bad(error, id=_header_number(parts, 1), node=_header_number(parts, 2))


def _message(parts: list[Any]) -> Frame:
    if parts[0] != VERSION or type(parts[0]) is not int:
        found = brief(parts[0])
        text = f"the frame has protocol version {found}, expected {VERSION}"
        raise WrongVersion(text, found=found, expected=str(VERSION), hint=SAME_RELEASE)
    if len(parts) != 5:
        raise Malformed(f"the frame has {len(parts)} parts, but 5 are expected")
    _, number, node, kind, body = parts
    if not (_is_u32(number) and _is_u32(node) and type(kind) is str):
        raise Malformed("a frame's id and node are 32-bit numbers and its type is a string")
    cls = MESSAGES.get(kind)
    if cls is None:
        raise UnknownType(f"no message is called {brief(kind)}", found=brief(kind))
    return Frame(decode_body(cls, body), node, number)


def _is_u32(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _U32


def _header_number(parts: list[Any], index: int) -> int:
    return parts[index] if len(parts) > index and _is_u32(parts[index]) else 0
