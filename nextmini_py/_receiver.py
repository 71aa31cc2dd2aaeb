"""`PacketReceiver`: messages of one flow, one at a time or in batches."""

from __future__ import annotations

from nextmini_py._native import PayloadDelivery, Receiver
from nextmini_py._waiter import waiter
from nextmini_py.errors import NodeClosed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType
    from typing import Self

__all__ = ["PacketReceiver"]


class PacketReceiver:
    """The messages of one flow; created by the `register_receiver_…` methods of `Dataplane`.

    Messages queue up to the node's `channel_capacity`. Beyond that they are dropped and counted; with
    `channel_backpressure` the queue first grows by up to 32 MB, for programs that do not read all the time.
    The node itself never waits for a program: that would delay the packets that it forwards, and its
    neighbours. Registering the flow takes its messages away from the TUN device; `close`, or garbage
    collection of the receiver, returns them.
    """

    def __init__(self, native: Receiver) -> None:
        self._native = native

    def recv(self, timeout_ms: int | None = None) -> PayloadDelivery | None:
        """Return the next message, waiting for it if need be.

        Args:
            timeout_ms: How long to wait; None waits for ever, 0 only looks.

        Returns:
            The message, or None when the time is over.

        Raises:
            NodeClosed: The receiver or its dataplane is closed, and no message is left.
        """
        return self._native.recv(timeout_ms)

    async def recv_async(self, timeout_ms: int | None = None) -> PayloadDelivery | None:
        """Like `recv`, for an event loop. Cancelling it loses no message."""
        return await waiter().until(self._native, self._native.poll, timeout_ms)

    def recv_batch(self, limit: int = 256, timeout_ms: int | None = None) -> list[PayloadDelivery]:
        """Return what has arrived, waiting for at least one message.

        This is the way to take many small messages: they cross into Python together.

        Args:
            limit: The most messages to return.
            timeout_ms: How long to wait for the first; None waits for ever, 0 only looks.

        Returns:
            Messages in order of arrival; none when the time is over.

        Raises:
            NodeClosed: As for `recv`.
        """
        return self._native.recv_batch(limit, timeout_ms)

    async def recv_batch_async(
        self, limit: int = 256, timeout_ms: int | None = None
    ) -> list[PayloadDelivery]:
        """Like `recv_batch`, for an event loop. Cancelling it loses no message."""
        native = self._native
        found = await waiter().until(native, lambda: native.recv_batch(limit, 0) or None, timeout_ms)
        return found or []

    @property
    def dropped(self) -> int:
        """Messages that found the queue full."""
        return self._native.dropped

    def close(self) -> None:
        """Stop receiving. What has arrived can still be taken; closing twice is fine."""
        self._native.close()

    def __iter__(self) -> Iterator[PayloadDelivery]:
        """Yield messages until the receiver is closed."""
        while True:
            try:
                delivery = self._native.recv(None)
            except NodeClosed:
                return
            if delivery is not None:
                yield delivery

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
