"""Frames to bytes and back.

A websocket message holds one or more frames, one after the other, so that a thousand small messages cost a
few system calls. A frame is a msgpack array of five: version, id, node, type, body.

Reading is forgiving in one way only: a frame that is well-formed msgpack but wrong in itself does not spoil
those around it. `decode_batch` hands it over as a `Bad`, with as much of its header as could be read, so that
the peer can be answered.
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
    WrongVersion,
)
from orchestrator.protocol.messages import MESSAGES, Message
from orchestrator.protocol.schema import decode_body, encode_body

__all__ = ["MAX_MESSAGE", "VERSION", "Bad", "Frame", "batches", "decode_batch", "decode_frames", "encode"]

VERSION = 1
"""The protocol's version; a frame of another one is refused."""

MAX_MESSAGE = 4 * 1024 * 1024
"""Bytes that one websocket message may have; a scenario's files are the largest thing that travels."""

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


def encode(frame: Frame) -> bytes:
    """Return a frame's bytes.

    Raises:
        Oversized: The frame alone is larger than a websocket message may be.
    """
    message = frame.message
    parts = (VERSION, frame.id, frame.node, message.type, encode_body(message))
    data: bytes = msgpack.packb(parts, use_bin_type=True)
    if len(data) > MAX_MESSAGE:
        raise Oversized(
            f"{message.type} has {len(data)} bytes, but a control message may have {MAX_MESSAGE}",
            found=str(len(data)),
            expected=f"at most {MAX_MESSAGE}",
        )
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


def decode_batch(data: bytes) -> list[Frame | Bad]:
    """Return the frames of a websocket message, with a `Bad` in the place of each wrong one.

    When the bytes stop making sense the last item is a `Bad`; nothing after that point can be found again.
    The same holds after many wrong frames: a peer that talks nonsense is not worth reading to the end.
    """
    if len(data) > MAX_MESSAGE:
        text = f"the message has {len(data)} bytes, but {MAX_MESSAGE} are allowed"
        return [Bad(Oversized(text, found=str(len(data)), expected=f"at most {MAX_MESSAGE}"))]
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
        except Exception as error:  # msgpack raises ValueError and its kin for every kind of nonsense
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
        found = str(parts[0])[:20]
        text = f"the frame is of protocol version {found}, but {VERSION} is spoken here"
        raise WrongVersion(text, found=found, expected=str(VERSION), hint=SAME_RELEASE)
    if len(parts) != 5:
        raise Malformed(f"the frame has {len(parts)} parts, but 5 are expected")
    _, number, node, kind, body = parts
    if not (_is_u32(number) and _is_u32(node) and type(kind) is str):
        raise Malformed("a frame's id and node are 32-bit numbers and its type is a string")
    cls = MESSAGES.get(kind)
    if cls is None:
        raise UnknownType(f"no message is called `{kind[:60]}`", found=kind[:60])
    return Frame(decode_body(cls, body), node, number)


def _is_u32(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _U32


def _header_number(parts: list[Any], index: int) -> int:
    return parts[index] if len(parts) > index and _is_u32(parts[index]) else 0
