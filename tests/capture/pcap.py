"""Read pcapng files with a reader that is not ours, and look for libpcap."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pcapng
import pytest
from pcapng.blocks import EnhancedPacket, InterfaceDescription, InterfaceStatistics

from orchestrator.capture import filters


@dataclass(frozen=True)
class Packet:
    """One packet of a file."""

    interface: str
    time_s: float
    data: bytes
    length: int
    comment: str


@dataclass
class File:
    """A capture file.

    Attributes:
        interfaces: Their names, in order.
        packets: All packets.
        statistics: What the file says by interface: received and dropped by the capture.
    """

    interfaces: list[str] = field(default_factory=list)
    packets: list[Packet] = field(default_factory=list)
    statistics: dict[str, tuple[int, int]] = field(default_factory=dict)

    def count(self, interface: str) -> int:
        """Return the packets of an interface."""
        return sum(each.interface == interface for each in self.packets)

    def bytes(self, interface: str) -> int:
        """Return their bytes on a wire."""
        return sum(each.length for each in self.packets if each.interface == interface)

    def comments(self, interface: str) -> Counter[str]:
        """Return the comments of its packets."""
        return Counter(each.comment for each in self.packets if each.interface == interface)


def read(path: Path) -> File:
    """Read a file to its end; a reader that meets half a block raises."""
    file = File()
    with path.open("rb") as stream:
        for block in pcapng.FileScanner(stream):
            if isinstance(block, InterfaceDescription):
                assert block.link_type == 101
                file.interfaces.append(block.options["if_name"])
            elif isinstance(block, EnhancedPacket):
                file.packets.append(_packet(block))
            elif isinstance(block, InterfaceStatistics):
                options = block.options
                name = file.interfaces[block.interface_id]
                file.statistics[name] = (options["isb_ifrecv"], options["isb_ifdrop"])
    return file


def _packet(block: EnhancedPacket) -> Packet:
    comments = block.options.get_all("opt_comment") if "opt_comment" in block.options else []
    return Packet(
        block.interface.options["if_name"],
        block.timestamp,
        block.packet_data,
        block.packet_len,
        "; ".join(comments),
    )


def libpcap() -> Iterator[str]:
    """Return the names under which libpcap can be loaded."""
    for name in filters._NAMES:  # the test asks for what the program would load
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        yield name


def need_libpcap() -> None:
    """Skip the test without libpcap; the reason names Debian's package."""
    if not any(libpcap()):
        pytest.skip("not installed: libpcap0.8 (apt-get install -y libpcap0.8)")
