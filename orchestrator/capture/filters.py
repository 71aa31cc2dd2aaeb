"""Compile the filter language of tcpdump to classic BPF with libpcap.

libpcap is loaded on this machine only, where the file is written; the nodes interpret the instructions.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from orchestrator.errors import HostNotFit, UsageError

__all__ = ["EVERY_PACKET", "LINKTYPE_RAW", "FilterInvalid", "Program", "compile_filter"]

LINKTYPE_RAW = 101
"""Packets of a capture begin with the IP header (https://www.tcpdump.org/linktypes.html)."""

_DLT_RAW = 12
"""The same for libpcap on Linux, which has numbers of its own for what it captures."""

_UNKNOWN_NETMASK = 0xFFFFFFFF
_SNAPLEN = 262_144
_NAMES = ("libpcap.so.0.8", "libpcap.so.1", "libpcap.so")


class FilterInvalid(UsageError):
    """A filter expression cannot be compiled; the message is libpcap's."""

    id = "capture.filter"


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled filter.

    Attributes:
        expression: What it was compiled from.
        instructions: Code, jump if true, jump if false and constant of each.
    """

    expression: str
    instructions: tuple[tuple[int, int, int, int], ...]

    def as_json(self) -> list[dict[str, int]]:
        """Return it as a node takes it."""
        return [dict(zip(("code", "jt", "jf", "k"), each, strict=True)) for each in self.instructions]


EVERY_PACKET = Program("", ())
"""The filter that accepts every packet."""


class _Instruction(ctypes.Structure):
    _fields_ = (  # as libpcap's `struct bpf_insn`
        ("code", ctypes.c_uint16),
        ("jt", ctypes.c_uint8),
        ("jf", ctypes.c_uint8),
        ("k", ctypes.c_uint32),
    )

    code: int
    jt: int
    jf: int
    k: int


class _Compiled(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint), ("instructions", ctypes.POINTER(_Instruction)))


def compile_filter(expression: str) -> Program:
    """Compile an expression such as `tcp port 5201`; an empty one accepts every packet.

    Raises:
        FilterInvalid: It does not parse, or names something that raw IP packets do not have.
        HostNotFit: libpcap is not installed.
    """
    if not expression.strip():
        return Program(expression, ())
    try:
        encoded = expression.encode()
        if b"\0" in encoded:
            raise ValueError("a zero byte")
    except ValueError as error:
        raise FilterInvalid(f"the filter cannot be read: {error}", found=repr(expression)) from error
    library = _load()
    handle = library.pcap_open_dead(_DLT_RAW, _SNAPLEN)
    if not handle:
        raise HostNotFit("libpcap has no memory for a filter", id="capture.libpcap")
    compiled = _Compiled()
    try:
        if library.pcap_compile(handle, ctypes.byref(compiled), encoded, 1, _UNKNOWN_NETMASK) != 0:
            reason = (library.pcap_geterr(handle) or b"").decode(errors="replace")
            raise FilterInvalid(
                f"the filter `{expression}` does not parse: {reason}",
                found=expression,
                expected="an expression of tcpdump such as `tcp port 5201 and host 10.0.0.2`",
                hint="`man pcap-filter` describes the language; packets begin with the IP header",
            )
        found = [compiled.instructions[index] for index in range(compiled.length)]
        program = tuple((each.code, each.jt, each.jf, each.k) for each in found)
        library.pcap_freecode(ctypes.byref(compiled))
        return Program(expression, program)
    finally:
        library.pcap_close(handle)


def _load() -> ctypes.CDLL:
    """Return libpcap.

    Raises:
        HostNotFit: It is not installed.
    """
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.pcap_open_dead.restype = ctypes.c_void_p
        library.pcap_open_dead.argtypes = [ctypes.c_int, ctypes.c_int]
        library.pcap_compile.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_uint32,
        ]
        library.pcap_geterr.restype = ctypes.c_char_p
        library.pcap_geterr.argtypes = [ctypes.c_void_p]
        library.pcap_freecode.argtypes = [ctypes.c_void_p]
        library.pcap_close.argtypes = [ctypes.c_void_p]
        return library
    raise HostNotFit(
        "a filter needs libpcap, which is not installed",
        id="capture.no-libpcap",
        expected=" or ".join(_NAMES),
        hint="`apt-get install libpcap0.8` installs it; without `--filter` it is not needed",
    )
