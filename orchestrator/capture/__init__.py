"""Captures: packets of a lab's nodes and links in pcapng files.

A process that carries nodes sends the blocks of its packets (`nm_driver::capture`); the file belongs to the
process that asked.

Modules:
    filters: Compile the filter language of tcpdump with libpcap.
    interfaces: Which interfaces a file has, and what is recorded at each.
    pcapng: The blocks of a file besides those of packets.
    recording: Write what nodes send to a file, until something ends it.
    source: The connection to a process that carries a node.
"""

from __future__ import annotations

from orchestrator.capture.filters import EVERY_PACKET, FilterInvalid, Program, compile_filter
from orchestrator.capture.interfaces import MOST_SOURCES, Interface, Target, link_interfaces, node_interfaces
from orchestrator.capture.recording import CaptureFailed, CaptureUnwritable, Recorded, Recording
from orchestrator.capture.source import SNAPLEN, Source

__all__ = [
    "EVERY_PACKET",
    "MOST_SOURCES",
    "SNAPLEN",
    "CaptureFailed",
    "CaptureUnwritable",
    "FilterInvalid",
    "Interface",
    "Program",
    "Recorded",
    "Recording",
    "Source",
    "Target",
    "compile_filter",
    "link_interfaces",
    "node_interfaces",
]
