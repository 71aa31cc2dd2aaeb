"""The interface of a measured path: two ends, and the links between.

The kernel's veth chain, a lab of nm and a Mininet network all become a `Path`. Cases and path checks
use only this interface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Cut", "Endpoint", "Path"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a path.

    Attributes:
        enter: Command prefix that runs a command in this end's network namespace.
        address: IPv4 address of this end on the path.
        interface: Device that must carry the traffic.
    """

    enter: tuple[str, ...]
    address: str
    interface: str

    def argv(self, *words: str) -> list[str]:
        """Return a command that runs in this end's network."""
        return [*self.enter, *words]


@dataclass(frozen=True, slots=True)
class Cut:
    """A way to take one link of a path down and up again."""

    down: Callable[[], None]
    up: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Path:
    """Two ends and the links between.

    Attributes:
        name: Short name, used in results.
        sender: The end that sends.
        receiver: The end that receives.
        hops: Hops that traceroute must print: routers on the way, and the receiver.
        mtu: MTU of the sender's device.
        relays: Returns the processes that forward packets in user space; none for kernel paths.
        link_bytes: Reads the bytes carried forward by every link of the path so far, in order of the path.
        cut: Takes a link in the middle down and up.
        only_devices: Whether an end's namespace has no network devices besides `interface` and the loopback.
    """

    name: str
    sender: Endpoint
    receiver: Endpoint
    hops: int
    mtu: int = 1500
    relays: Callable[[], Sequence[int]] = tuple
    link_bytes: Callable[[], Sequence[int]] | None = None
    cut: Cut | None = None
    only_devices: bool = True
