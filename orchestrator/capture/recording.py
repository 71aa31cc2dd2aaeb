"""Write what nodes send to a file, until a limit, the caller, the reader or the end of all nodes ends it.

    header, interfaces → blocks of packets, as they come → statistics of every interface

The file is a whole pcapng file whatever ends the capture. On a full disk it ends with the last whole block.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from orchestrator.capture import pcapng
from orchestrator.capture.filters import EVERY_PACKET, Program
from orchestrator.capture.interfaces import Interface
from orchestrator.capture.source import BLOCKS, SNAPLEN, STATISTICS, Source, counts
from orchestrator.errors import HostNotFit, NmError

__all__ = ["CaptureFailed", "CaptureUnwritable", "Recorded", "Recording"]

LOOK_S = 0.1
"""How often it is looked whether the caller has stopped the capture."""

LAST_S = 5.0
"""How long what waits at the nodes may take to arrive at the end of a capture."""

Told = Callable[[str], None]


class CaptureFailed(NmError):
    """A node does not send its packets."""

    id = "capture.failed"
    exit_code = 5


class CaptureUnwritable(HostNotFit):
    """The file of a capture cannot be written."""

    id = "capture.unwritable"


@dataclass(frozen=True)
class Recorded:
    """What a capture has.

    Attributes:
        ended: What ended it: `duration`, `limit`, `stopped`, `reader` (it went away), or `nodes` (all have
            ended).
        interfaces: By interface its name, packets received, accepted and missed, and bytes of those accepted.
        size: Bytes of the file.
        seconds: How long it took.
    """

    ended: str
    interfaces: tuple[dict[str, Any], ...]
    size: int
    seconds: float

    def total(self, key: str) -> int:
        """Return the sum of a count over all interfaces."""
        return sum(int(each[key]) for each in self.interfaces)

    def as_json(self) -> dict[str, Any]:
        """Return it as `nm capture -o json` shows it."""
        return {
            "ended": self.ended,
            "packets": self.total("packets"),
            "missed": self.total("missed"),
            "size": self.size,
            "seconds": round(self.seconds, 3),
            "interfaces": list(self.interfaces),
        }


@dataclass
class Recording:
    """One file, from the packets of several nodes.

    Attributes:
        sources: The connections to the nodes; `run` closes them.
        interfaces: The interfaces of the file.
        descriptor: The open file or pipe; it stays open.
        application: What wrote the file, for its header.
        program: Which packets are kept.
        snaplen: Bytes of each packet that are kept.
        limit: Bytes that the file may have; no limit unless given.
        duration_s: When it ends by itself; never unless given.
        told: Called with a sentence when a node has ended before the others.
    """

    sources: Sequence[Source]
    interfaces: Sequence[Interface]
    descriptor: int
    application: str = "nm"
    program: Program = EVERY_PACKET
    snaplen: int = SNAPLEN
    limit: int | None = None
    duration_s: float | None = None
    told: Told = lambda _sentence: None
    _ended: str = ""
    _size: int = 0
    _counts: dict[int, dict[str, Any]] = field(default_factory=dict)
    _left_out: Counter[tuple[str, int]] = field(default_factory=Counter)
    _stopped: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """End the capture in order; may be called from any thread."""
        self._stopped.set()

    def begin(self) -> None:
        """Begin to record at every node, and write the header.

        Raises:
            CaptureFailed: A node refuses, or does not answer; all connections are closed.
            CaptureUnwritable: The file cannot be written.
        """
        epoch_ns = time.time_ns() - time.monotonic_ns()
        try:
            self._write_header()
            for source in self.sources:
                numbered = list(enumerate(self.interfaces))
                if refused := source.begin(numbered, self.program, self.snaplen, epoch_ns):
                    raise CaptureFailed(
                        f"node {source.node} cannot be captured: {refused}",
                        found=str(source.node),
                        hint="`nm status` says whether the node runs; `nm up` repairs a lab",
                    )
        except BaseException:
            self._close()
            raise

    def run(self) -> Recorded:
        """Write packets until something ends the capture; `begin` comes before.

        Raises:
            CaptureUnwritable: The file cannot be written any more; what it has so far is whole.
        """
        started = time.monotonic()
        try:
            self._follow(started)
            self._write_statistics()
        except _ReaderGone:
            self._ended = "reader"
        finally:
            self._close()
        shown = tuple(self._shown(number) for number in range(len(self.interfaces)))
        return Recorded(self._ended, shown, self._size, time.monotonic() - started)

    def _follow(self, started: float) -> None:
        waiting = select.poll()
        open_sources = {source.fileno(): source for source in self.sources}
        for number in open_sources:
            waiting.register(number, select.POLLIN)
        if stat.S_ISFIFO(os.fstat(self.descriptor).st_mode):
            waiting.register(self.descriptor, 0)  # the reader went away
        deadline = None if self.duration_s is None else started + self.duration_s
        last = None
        while open_sources:
            now = time.monotonic()
            if not self._ended:
                self._ended = self._reason(now, deadline)
            if self._ended and last is None:
                last = now + LAST_S
                for source in open_sources.values():
                    source.finish()
            if last is not None and now > last:
                return
            left = LOOK_S if deadline is None or self._ended else min(LOOK_S, max(0.0, deadline - now))
            for number, _events in waiting.poll(left * 1000):
                if number == self.descriptor:
                    raise _ReaderGone
                if not self._take(open_sources[number]):
                    waiting.unregister(number)
                    self._lost(open_sources.pop(number))
        self._ended = self._ended or "nodes"

    def _reason(self, now: float, deadline: float | None) -> str:
        if self._stopped.is_set():
            return "stopped"
        return "duration" if deadline is not None and now >= deadline else ""

    def _lost(self, source: Source) -> None:
        if broken := source.broken():
            self.told(broken)
        elif not self._ended:
            self.told(f"node {source.node} has ended, and its part of the capture with it")

    def _take(self, source: Source) -> bool:
        """Write what a node sent; False when its stream has ended."""
        if not source.receive():
            return False
        for kind, content in source.frames():
            if kind == STATISTICS:
                for each in counts(content):
                    self._counts[int(each["interface"])] = each
            elif kind == BLOCKS:
                self._write_blocks(content)
        return True

    def _write_blocks(self, blocks: memoryview) -> None:
        fits = len(blocks)
        if self._ended == "limit":
            fits = 0
        elif self.limit is not None and self._size + len(blocks) > self.limit:
            fits = pcapng.whole_blocks(blocks, max(0, self.limit - self._size))
            self._ended = "limit"
        if fits:
            self._write(blocks[:fits])
        for number, length in pcapng.packets(blocks[fits:]):
            self._left_out["packets", number] += 1
            self._left_out["bytes", number] += length

    def _write_header(self) -> None:
        blocks = [pcapng.section_header(self.application)]
        for each in self.interfaces:
            expression = self.program.expression
            blocks.append(pcapng.interface_description(each.name, each.description, self.snaplen, expression))
        try:
            self._write(b"".join(blocks))
        except _ReaderGone as error:
            raise CaptureUnwritable("the reader of the capture is gone before it began") from error

    def _write_statistics(self) -> None:
        now = time.time_ns()
        shown = [self._shown(number) for number in range(len(self.interfaces))]
        blocks = [
            pcapng.interface_statistics(number, now, each["received"], each["packets"], each["missed"])
            for number, each in enumerate(shown)
        ]
        self._write(b"".join(blocks))

    def _shown(self, number: int) -> dict[str, Any]:
        found = self._counts.get(number, {})
        return {
            "name": self.interfaces[number].name,
            "received": int(found.get("received", 0)),
            "packets": int(found.get("accepted", 0)) - self._left_out["packets", number],
            "bytes": int(found.get("bytes", 0)) - self._left_out["bytes", number],
            "missed": int(found.get("missed", 0)),
        }

    def _write(self, data: bytes | memoryview) -> None:
        """Write whole blocks.

        Raises:
            _ReaderGone: The other end of a pipe was closed.
            CaptureUnwritable: The blocks are not all in the file; none of them is.
        """
        at = 0
        view = memoryview(data)
        try:
            while at < len(view):
                at += os.write(self.descriptor, view[at:])
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise _ReaderGone from error
            if at:
                with suppress(OSError):  # a pipe cannot be shortened
                    os.ftruncate(self.descriptor, os.fstat(self.descriptor).st_size - at)
            raise CaptureUnwritable(
                f"the capture ends, because it cannot be written: {error.strerror}",
                found=f"{self._size} bytes are written",
                hint="the file has every packet until then; `--limit SIZE` and `--filter` keep it small",
            ) from error
        self._size += len(view)

    def _close(self) -> None:
        for source in self.sources:
            source.close()


class _ReaderGone(Exception):
    """The other end of the pipe was closed."""
