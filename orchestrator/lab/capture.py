"""Capture packets of nodes and links of a lab that is up, into a file or a pipe."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypedDict

from orchestrator import units
from orchestrator.capture import (
    EVERY_PACKET,
    MOST_SOURCES,
    SNAPLEN,
    CaptureUnwritable,
    Interface,
    Program,
    Recorded,
    Recording,
    Source,
    Target,
    compile_filter,
    link_interfaces,
    node_interfaces,
)
from orchestrator.deploy import captures
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.state import LabState
from orchestrator.errors import UsageError
from orchestrator.lab.find import require_ours, select_node
from orchestrator.topology import Topology

__all__ = ["Capture", "CaptureOptions", "CaptureWords", "capture_one", "start_capture"]

LEAST_SNAPLEN = 64
"""Bytes of a packet that are always kept: the headers of TCP over IPv4."""

STOP_S = 10.0
"""How long a capture may take to end after it was stopped; its own limit is shorter."""


@dataclass(frozen=True, slots=True)
class CaptureOptions:
    """How it is captured.

    Attributes:
        program: Which packets.
        snaplen: Bytes of each packet that are kept.
        limit: Bytes that the file may have; no limit unless given.
        duration_s: When it ends by itself; never unless given.
    """

    program: Program = EVERY_PACKET
    snaplen: int = SNAPLEN
    limit: int | None = None
    duration_s: float | None = None

    @classmethod
    def of(
        cls,
        expression: str = "",
        *,
        snaplen: int | None = None,
        limit: int | None = None,
        duration_s: float | None = None,
    ) -> CaptureOptions:
        """Compile the filter, and check the other values.

        Raises:
            FilterInvalid: The filter does not parse.
            HostNotFit: libpcap is not installed.
            UsageError: Another value makes no sense.
        """
        for name, value, least, unit in (
            ("snaplen", snaplen, LEAST_SNAPLEN, "bytes"),
            ("limit", limit, 4_096, "bytes"),
            ("duration", duration_s, 0.001, "s"),
        ):
            if value is not None and not value >= least:
                raise UsageError(
                    f"the {name} of a capture is {value:g} {unit}, but at least {least:g} is needed",
                    id="capture.option",
                    found=f"{value:g}",
                    expected=f"at least {least:g} {unit}",
                )
        return cls(compile_filter(expression), min(snaplen or SNAPLEN, SNAPLEN), limit, duration_s)


class Capture:
    """A capture that runs, in a thread of its own; as a context manager it is stopped at the end."""

    def __init__(self, recording: Recording, close: Callable[[], None]) -> None:
        self._recording = recording
        self._close = close
        self._recorded: Recorded | None = None
        self._error: BaseException | None = None
        # Waited for instead of the thread: an interrupted `join` takes the thread for ended (Python 3.11).
        self._done = threading.Event()
        threading.Thread(target=self._run, name="capture", daemon=True).start()

    def _run(self) -> None:
        try:
            self._recorded = self._recording.run()
        except BaseException as error:  # raised to whoever waits
            self._error = error
        finally:
            self._close()
            self._done.set()

    def wait(self, timeout_s: float | None = None) -> Recorded | None:
        """Wait until the capture has ended; None if it has not in time.

        Raises:
            CaptureUnwritable: The file cannot be written any more.
        """
        self._done.wait(timeout_s)
        if self._error is not None:
            raise self._error
        return self._recorded

    def stop(self) -> Recorded:
        """End the capture in order, and return what it has.

        Raises:
            CaptureUnwritable: The file cannot be written any more.
        """
        self._recording.stop()
        recorded = self.wait(STOP_S)
        if recorded is None:
            raise CaptureUnwritable(f"the capture did not end within {STOP_S:g} s: its file takes nothing")
        return recorded

    def __enter__(self) -> Capture:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _target(
    state: LabState, topology: Topology, *, node: str | None = None, link: Sequence[str] | None = None
) -> Target:
    """Return what a node, or the two ends of a link, mean.

    Raises:
        UsageError: There is no such node or link, it is external, or not one of both is given.
    """
    if (node is None) == (link is None):
        raise UsageError(
            "a capture needs a node or a link" if node is None else "a capture is of a node or a link",
            id="capture.target",
            expected="`nm capture NODE` or `nm capture --link A B`",
        )
    ends = [select_node(state, word) for word in ([node] if node is not None else link or ())]
    target = Target(*ends)
    _check_link(topology, target)
    for number in ends:
        require_ours(state, state.node(number))
    return target


def _check_link(topology: Topology, target: Target) -> None:
    """Check that a link that is to be captured exists.

    Raises:
        UsageError: It does not.
    """
    if target.remote is not None and target.remote not in topology.neighbours(target.node):
        near = ", ".join(map(str, topology.neighbours(target.node))) or "no node"
        raise UsageError(
            f"there is no link between {target.node} and {target.remote}",
            id="capture.no-link",
            found=f"{target.node} {target.remote}",
            hint=f"node {target.node} has links to {near}",
        )


def start_capture(
    directory: LabDirectory,
    state: LabState,
    targets: Iterable[Target],
    file: Path | int,
    options: CaptureOptions,
    told: Callable[[str], None] = lambda _sentence: None,
) -> Capture:
    """Begin a capture; packets from now on are in the file.

    Args:
        directory: The lab's folder.
        state: Its state.
        targets: What is captured, all in one file.
        file: A path, or an open descriptor, which stays open.
        options: How.
        told: Called with a sentence when a node has ended before the others.

    Raises:
        UsageError: A node is stopped or paused by request, or there are too many.
        CaptureFailed: A node refuses, or does not answer.
        CaptureUnwritable: The file cannot be written.
    """
    targets = tuple(targets)
    nodes = sorted({node for target in targets for node in target.nodes})
    if len(nodes) > MOST_SOURCES:
        raise UsageError(
            f"a capture of {len(nodes)} nodes is too large",
            id="capture.too-many",
            found=str(len(nodes)),
            expected=f"at most {MOST_SOURCES} nodes and ends of links",
        )
    sources: list[Source] = []
    try:
        for node in nodes:
            sources.append(captures.connect(directory, state, node))  # closed on failure
        descriptor, close = (file, _leave_open) if isinstance(file, int) else _open(file)
    except BaseException:
        for source in sources:
            source.close()
        raise
    recording = Recording(
        sources,
        interfaces(state, targets),
        descriptor,
        f"nm, lab {state.lab}",
        options.program,
        options.snaplen,
        options.limit,
        options.duration_s,
        told,
    )
    try:
        recording.begin()
    except BaseException:
        close()
        raise
    return Capture(recording, close)


class CaptureWords(TypedDict, total=False):
    """What is captured and how, as `nm capture` has it.

    Attributes:
        node: A node, by number or name; or
        link: the two ends of a link.
        filter: Which packets, in the language of tcpdump; all unless given.
        limit: The largest size of the file, such as `100 MB`.
        snaplen: Bytes of each packet that are kept.
        duration_s: When it ends by itself; `Capture.stop` ends it before.
    """

    node: int | str | None
    link: tuple[int | str, int | str] | None
    filter: str
    limit: int | str | None
    snaplen: int | None
    duration_s: float | None


def capture_one(
    directory: LabDirectory,
    state: LabState,
    topology: Topology,
    file: Path | int,
    how: CaptureWords,
    told: Callable[[str], None] = lambda _sentence: None,
) -> Capture:
    """Begin a capture of a node or of a link.

    Raises:
        UsageError: A value makes no sense, or there is no such node or link.
        NmError: The capture cannot begin; see `start_capture`.
    """
    limit, node, link = how.get("limit"), how.get("node"), how.get("link")
    options = CaptureOptions.of(
        how.get("filter", ""),
        snaplen=how.get("snaplen"),
        limit=None if limit is None else units.parse_size(limit).bytes,
        duration_s=how.get("duration_s"),
    )
    target = _target(
        state,
        topology,
        node=None if node is None else str(node),
        link=None if link is None else [str(end) for end in link],
    )
    return start_capture(directory, state, [target], file, options, told)


def interfaces(state: LabState, targets: Iterable[Target]) -> list[Interface]:
    """Return the interfaces of a file with these targets, each once."""
    found: dict[Interface, None] = {}

    def name(node: int) -> str:
        return state.node(node).name

    for target in targets:
        if target.remote is None:
            found |= dict.fromkeys(node_interfaces(target.node, name))
        else:
            found |= dict.fromkeys(link_interfaces(target.node, target.remote, name))
    return list(found)


def _leave_open() -> None:
    """Do nothing: the descriptor is the caller's."""


def _open(path: Path) -> tuple[int, Callable[[], None]]:
    """Open the file of a capture for writing."""
    try:
        # Without waiting for the reader of a named pipe.
        descriptor = os.open(
            path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NONBLOCK, 0o644
        )
        os.set_blocking(descriptor, True)
    except OSError as error:
        pipe = path.exists() and stat.S_ISFIFO(path.stat().st_mode)
        raise CaptureUnwritable(
            f"{path} cannot be written: {error.strerror}",
            found=str(path),
            hint="nothing reads the pipe yet" if pipe else None,
        ) from error

    def close() -> None:
        with suppress(OSError):
            os.close(descriptor)

    return descriptor, close
