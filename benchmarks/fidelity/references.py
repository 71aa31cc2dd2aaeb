"""Links of the kernel and of Mininet as references: without netem they shape the rate and nothing else."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from benchmarks import namespaces
from benchmarks.commands import run
from benchmarks.errors import BenchmarkError
from benchmarks.paths import Endpoint, Path
from benchmarks.peers import mininet
from orchestrator.bench.ends import End, NotApplicable
from orchestrator.errors import RunFailed

__all__ = ["PathEnds", "kernel", "mininet_link"]

_TC_SECONDS = 10.0
_HZ = 250
"""Timer interrupts per second for which a token bucket's burst is sized (tc-tbf(8): at least rate / HZ)."""


class PathEnds:
    """The ends of a path in namespaces, whose first device is shaped by a token bucket."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def receiver_address(self) -> str:
        """The receiver's address on the path."""
        return self._path.receiver.address

    def shape(self, spec: Mapping[str, Any]) -> None:
        """Replace the queueing discipline of the sender's device."""
        rate = rate_alone(spec)
        end = self._path.sender
        with contextlib.suppress(BenchmarkError):  # there may be none
            run(end.argv("tc", "qdisc", "del", "dev", end.interface, "root"), timeout=_TC_SECONDS)
        if rate is None:
            return
        burst = max(2 * 1514, rate // 8 // _HZ)
        words = f"qdisc replace dev {end.interface} root tbf rate {rate}bit burst {burst} latency 50ms"
        try:
            run(end.argv("tc", *words.split()), timeout=_TC_SECONDS)
        except BenchmarkError as error:
            raise NotApplicable(f"tc tbf: {error}") from error

    def python(self, end: End, source: str, words: list[str], timeout_s: float) -> str:
        """Run a program in the network of one end."""
        return in_network(getattr(self._path, end), source, words, timeout_s)


class MininetEnds:
    """Two hosts with a TCLink between, made anew for every rate."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self._path: Path | None = None

    @property
    def receiver_address(self) -> str:
        """The second host's address."""
        return self._current().receiver.address

    def shape(self, spec: Mapping[str, Any]) -> None:
        """Make a network with this rate."""
        rate = rate_alone(spec)
        self._stack.close()
        self._path = None
        if rate is not None and rate > 1_000_000_000:
            raise NotApplicable("TCLink has rates up to 1 Gbit/s")
        self._path = self._stack.enter_context(mininet.pair(rate))

    def python(self, end: End, source: str, words: list[str], timeout_s: float) -> str:
        """Run a program in the network of one host."""
        return in_network(getattr(self._current(), end), source, words, timeout_s)

    def _current(self) -> Path:
        if self._path is None:
            raise RunFailed("there is no network")
        return self._path


@contextlib.contextmanager
def kernel() -> Iterator[PathEnds]:
    """Yield one veth link between two namespaces."""
    with namespaces.veth_chain(1) as path:
        yield PathEnds(path)


@contextlib.contextmanager
def mininet_link() -> Iterator[MininetEnds]:
    """Yield a network of Mininet.

    Raises:
        NotRunnable: Mininet is not installed.
    """
    with contextlib.ExitStack() as stack:
        ends = MininetEnds(stack)
        ends.shape({})
        yield ends


def rate_alone(spec: Mapping[str, Any]) -> int | None:
    """The rate of a specification.

    Raises:
        NotApplicable: It requests more than a rate.
    """
    others = sorted(spec.keys() - {"rate_bps"})
    if others:
        raise NotApplicable("not applied: this kernel has no netem, which delay and loss need")
    return spec.get("rate_bps")


def in_network(end: Endpoint, source: str, words: list[str], timeout_s: float) -> str:
    """Run a Python program in a network namespace; return what it prints.

    Raises:
        RunFailed: It ended with an error.
    """
    try:
        return run(end.argv(sys.executable, "-I", "-", *words), timeout=timeout_s, stdin=source).stdout
    except BenchmarkError as error:
        raise RunFailed(str(error)) from error
