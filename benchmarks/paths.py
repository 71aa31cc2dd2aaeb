"""The interface of a measured path: two ends, and the links between.

The kernel's veth chain, a lab of ours and a Mininet network all become a `Path`. The cases and the path
checks know nothing else about them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

__all__ = ["Cut", "Endpoint", "Path"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One end of a path.

    Attributes:
        enter: Words to put before a command so that it runs in this end's network.
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
    """Two ends and what lies between.

    Attributes:
        name: Short name, used in results.
        sender: The end that sends.
        receiver: The end that receives.
        hops: Lines that traceroute must print: routers on the way, and the receiver.
        mtu: MTU of the sender's device.
        relays: Processes that forward packets in user space, for placement on a CPU; none for the kernel's.
        link_bytes: Reads the bytes carried forward by every link of the path so far, in order of the path.
        cut: How to take a link in the middle down.
        only_devices: Whether an end owns no network device but its own and the loopback.
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
