"""One end of a control connection: batched sending, receiving, and matching replies to requests.

Sending does not wait for the network: frames are queued while the previous batch is sent, and leave together.
A peer that does not read is disconnected when the queue exceeds its bound, so that one slow node cannot use
up the memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from orchestrator import log
from orchestrator.protocol import (
    MAX_MESSAGE,
    Bad,
    Frame,
    Message,
    Payload,
    ProtocolError,
    Requests,
    batches,
    decode_batch,
    encode,
    encode_payload,
    error_reply,
    peer_error,
    reply_to,
)
from orchestrator.protocol.messages import Ack, Error, Welcome
from orchestrator.tasks import spawn
from orchestrator.transport.errors import Disconnected, RequestTimeout
from orchestrator.transport.pipes import Pipe

__all__ = ["Connection", "OnReply"]

_LOG = log.get(__name__)

OnReply = Callable[[Message | None], None]
"""Called with the reply to a request, or with None when the connection ended before it came."""

MAX_PENDING = 64 * 1024 * 1024
"""Bytes that may wait to be sent to a peer before it is given up."""

HIGH_WATER = 4 * 1024 * 1024
"""Bytes waiting at which `send` holds its caller back."""

UNREAD_BYTES = 1024 * 1024
"""Unread bytes at which no more is taken from the socket, which holds the peer back."""

MAX_UNREAD_BYTES = 64 * 1024 * 1024
"""Bytes that may wait for our own reader while it waits for a reply that comes behind them."""

MAX_BAD_FRAMES = 1000
"""Frames that a peer may get wrong before it is given up."""


class Connection:
    """A control connection; made by `connect`, `serve` or `memory_pair`.

    Iterating yields the peer's frames, replies excepted, until the connection ends. A frame that cannot be
    understood is answered with an `Error` and left out.

    Attributes:
        welcome: The controller's `Welcome`; None on the controller's side.
        max_message: Bytes that a message of the peer may have.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._requests: Requests[OnReply] = Requests()
        self._outgoing: deque[bytes] = deque()
        self._pending = 0
        self._drained = asyncio.Event()
        self._drained.set()
        self._flusher: asyncio.Task[None] | None = None
        self._incoming: deque[tuple[Frame, int]] = deque()
        self._unread_bytes = 0
        self._awaited = 0  # requests whose caller does nothing but wait
        self._capacity = asyncio.Event()
        self._capacity.set()
        self._arrived = asyncio.Event()
        self._ended: str | None = None
        self._wrong = 0
        self._closed = asyncio.Event()
        self.on_bad_frame: Callable[[Bad], None] | None = None
        self.on_admitted: Callable[[], None] | None = None
        self.max_message = MAX_MESSAGE
        self.welcome: Welcome | None = None
        self._finisher: asyncio.Task[None] | None = None
        self._pump = spawn(self._receive(), name=f"control {pipe.remote}", failed=self._task_failed)
        # Not in a `finally` of the task itself: one that is cancelled before its first step never gets there.
        self._pump.add_done_callback(self._begin_finish)

    @property
    def remote(self) -> str:
        """Who is at the other end, for the log."""
        return self._pipe.remote

    @property
    def ended(self) -> str | None:
        """Why the connection ended, None while it lasts."""
        return self._ended

    @property
    def unread(self) -> int:
        """Frames that have arrived and were not read yet."""
        return len(self._incoming)

    @property
    def congested(self) -> bool:
        """Whether so much waits to be sent that what is worth something only now is better left out."""
        return not self._drained.is_set()

    @property
    def pending_bytes(self) -> int:
        """Bytes that wait to be sent."""
        return self._pending

    # Sending.

    def send_nowait(self, message: Message, *, node: int = 0, id: int = 0) -> None:
        """Put a message on its way without waiting; nothing happens if the connection has ended."""
        if self._ended is None:
            self.send_encoded(encode(Frame(message, node, id)))

    def send_encoded(self, data: bytes) -> None:
        """Put an encoded frame on its way; for one that goes to many peers."""
        if self._ended is not None:
            return
        if self._pending + len(data) > MAX_PENDING:
            self._end(f"the peer does not read: {self._pending} bytes are waiting for it")
            return
        self._outgoing.append(data)
        self._pending += len(data)
        if self._pending > HIGH_WATER:
            self._drained.clear()
        if self._flusher is None:
            self._flusher = spawn(self._flush(), name=f"control {self.remote} out", failed=self._task_failed)

    async def send(self, message: Message, *, node: int = 0) -> None:
        """Put a message on its way; waits while too much is under way already.

        Raises:
            Disconnected: The connection has ended.
        """
        await self.send_ready(encode(Frame(message, node)))

    async def send_ready(self, data: bytes) -> None:
        """Like `send`, for an encoded frame."""
        self._check()
        self.send_encoded(data)
        if not self._drained.is_set():
            await self._drained.wait()
        self._check()

    def ask(self, message: Message, on_reply: OnReply, *, node: int = 0) -> None:
        """Send a request and call back with its reply, or with None when the connection ends first.

        Raises:
            ProtocolError: The message cannot be sent; nothing is called back.
        """
        self.ask_encoded(encode_payload(message), on_reply, node=node)

    def ask_encoded(self, payload: Payload, on_reply: OnReply, *, node: int = 0) -> None:
        """Like `ask`, for a message that was encoded before."""
        if self._ended is not None:
            on_reply(None)
            return
        number = self._requests.open(on_reply)
        self.send_encoded(payload.frame(node, number))

    async def request(self, message: Message, *, node: int = 0, within: float | None = 30.0) -> Message:
        """Send a request and return its reply.

        Cancelling is safe; the reply is then ignored.

        Args:
            message: The request.
            node: The node that it concerns.
            within: Seconds to wait, None for as long as the connection lasts.

        Raises:
            PeerError: The peer answered with an `Error`; its id is the error's.
            Disconnected: The connection ended before the reply.
            RequestTimeout: No reply came in time.
        """
        future: asyncio.Future[Message | None] = asyncio.get_running_loop().create_future()
        self.ask(message, lambda reply: None if future.done() else future.set_result(reply), node=node)
        self._awaited += 1
        self._resume_reading()
        try:
            async with asyncio.timeout(within):
                reply = await future
        except TimeoutError:
            text = f"{self.remote} did not answer {message.type} within {within:g} s"
            raise RequestTimeout(text, expected=f"an answer within {within:g} s") from None
        finally:
            self._awaited -= 1
            self._resume_reading()
        if reply is None:
            raise Disconnected(self._ended or "the connection ended")
        if isinstance(reply, Error):
            raise peer_error(reply)
        return reply

    def reply(self, frame: Frame, message: Message) -> None:
        """Answer a request with a message that carries its number in `re`; nothing if none was asked for."""
        if frame.id:
            self.send_nowait(message, node=frame.node)

    def ack(self, frame: Frame, value: Any = None) -> None:
        """Say that a request was carried out."""
        self.reply(frame, Ack(frame.id, value))

    def refuse(self, frame: Frame, error: ProtocolError) -> None:
        """Say why a request, or any other message, was not carried out."""
        self.send_nowait(error_reply(error, frame.id), node=frame.node)

    # Receiving.

    def __aiter__(self) -> Connection:
        return self

    async def __anext__(self) -> Frame:
        frame = await self.next_frame()
        if frame is None:
            raise StopAsyncIteration
        return frame

    async def next_frame(self, within: float | None = None) -> Frame | None:
        """Return the peer's next frame, None when the connection has ended. Cancelling loses nothing.

        Raises:
            RequestTimeout: None came in time.
        """
        if self._incoming:
            return self._next()
        try:
            async with asyncio.timeout(within):
                while not self._incoming:
                    if self._ended is not None:
                        return None
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError:
            raise RequestTimeout(f"{self.remote} said nothing for {within:g} s") from None
        return self._next()

    def take(self) -> list[Frame]:
        """Return the frames that have arrived already, without waiting."""
        return [self._next() for _ in range(len(self._incoming))]

    def _next(self) -> Frame:
        frame, size = self._incoming.popleft()
        self._unread_bytes -= size
        self._resume_reading()
        return frame

    def _resume_reading(self) -> None:
        """Read on from the socket, or not: an awaited reply may be behind unread frames."""
        if self._unread_bytes < UNREAD_BYTES or self._awaited:
            self._capacity.set()
        else:
            self._capacity.clear()

    # The end.

    async def close(self, reason: str = "done", *, grace: float = 2.0) -> None:
        """Send what is waiting, within the grace time, and end the connection."""
        if self._flusher is not None and self._ended is None:
            await asyncio.wait([self._flusher], timeout=grace)
        self._end(reason)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until the connection has ended and its tasks are gone."""
        await self._closed.wait()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _check(self) -> None:
        if self._ended is not None:
            raise Disconnected(self._ended)

    def _end(self, reason: str) -> None:
        if self._ended is None:
            self._ended = reason
            self._pump.cancel()

    def _task_failed(self, error: Exception) -> None:
        """End the connection, because one of its tasks failed, which was logged."""
        self._end(f"internal error: {type(error).__name__}")

    async def _receive(self) -> None:
        try:
            while self._ended is None:
                await self._capacity.wait()
                data = await self._pipe.recv()
                self._arrive(decode_batch(data, self.max_message), len(data))
        except Disconnected as error:
            self._ended = self._ended or error.message
        except asyncio.CancelledError:
            self._ended = self._ended or "the program ends"
        except Exception as error:
            self._ended = self._ended or f"internal error: {type(error).__name__}"
            raise

    def _begin_finish(self, _: asyncio.Task[None]) -> None:
        self._finisher = spawn(self._finish(), name=f"control {self.remote} end")

    def _arrive(self, items: list[Frame | Bad], size: int) -> None:
        each = max(1, size // max(1, len(items)))
        for item in items:
            if isinstance(item, Bad):
                self._complain(item)
                continue
            number = reply_to(item.message)
            on_reply = self._requests.close(number) if number else None
            if on_reply is not None:
                on_reply(item.message)
            elif not isinstance(item.message, Ack):  # its caller does not wait any more
                self._incoming.append((item, each))
                self._unread_bytes += each
        if self._incoming:
            self._arrived.set()
        self._resume_reading()
        if self._unread_bytes > MAX_UNREAD_BYTES:
            self._end(f"{len(self._incoming)} messages arrived that nobody read")

    def _complain(self, bad: Bad) -> None:
        self._wrong += 1
        self.send_nowait(error_reply(bad.error, bad.id), node=bad.node)
        if self.on_bad_frame is not None:
            self.on_bad_frame(bad)
        if self._wrong > MAX_BAD_FRAMES:
            self._end(f"the peer sent {self._wrong} messages that cannot be understood")

    async def _flush(self) -> None:
        try:
            while self._outgoing and self._ended is None:
                waiting = list(self._outgoing)
                self._outgoing.clear()
                for batch in batches(waiting):
                    await self._pipe.send(batch)
                    self._pending -= len(batch)
                if self._pending <= HIGH_WATER:
                    self._drained.set()
        except Disconnected as error:
            self._end(error.message)
        finally:
            self._flusher = None

    async def _finish(self) -> None:
        try:
            async with asyncio.timeout(5):
                await self._pipe.close(self._ended or "")
        except Exception:  # whatever fails while closing, the connection has ended
            _LOG.debug("connection broke while it was closed", address=self.remote)
        finally:
            if self._flusher is not None:
                self._flusher.cancel()
            self._drained.set()
            self._arrived.set()
            for on_reply in self._requests.close_all():
                on_reply(None)
            self._closed.set()
