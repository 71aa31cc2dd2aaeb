"""The contents of traces apart from the links that play them, as text for files, by digest."""

from __future__ import annotations

import base64
import binascii
import hashlib
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace

from orchestrator.impairment.rules import MOST_TRACE_BYTES
from orchestrator.impairment.spec import LinkSpec

__all__ = ["check_traces", "trace_contents", "trace_from_text", "trace_to_text", "with_trace"]

MOST_LAB_BYTES = 32 * 2**20
"""The most bytes of the traces of all directions of links of a lab. Each is sent to its node by itself, and
the nodes of one process share a connection, which may have 64 MiB waiting."""


def trace_contents(specs: Iterable[LinkSpec]) -> dict[str, bytes]:
    """Return the contents of all traces, by digest."""
    return {spec.trace: spec.trace_data for spec in specs if spec.trace and spec.trace_data}


MOST_TEXT = 6 * 2**20
"""The most characters of the traces in the controller's file, which may have 8 MiB."""


def check_traces(specs: Iterable[LinkSpec], *, in_file: bool = False) -> None:
    """Check that the traces of a lab are not too large together.

    Args:
        specs: All directions of links.
        in_file: Whether the traces go into the controller's file, once each.

    Raises:
        ValueError: They are.
    """
    specs = tuple(specs)
    total = sum(len(spec.trace_data or b"") for spec in specs)
    if total > MOST_LAB_BYTES:
        raise ValueError(
            f"the traces of all directions of links have {total:,} bytes when encoded, more than the "
            f"{MOST_LAB_BYTES:,} that a lab may have"
        )
    different = trace_contents(specs).values()
    if in_file and sum(map(len, different)) > MOST_TEXT // 2:
        text = sum(len(trace_to_text(content)) for content in different)
        if text > MOST_TEXT:
            raise ValueError(
                f"the different traces of a lab have {text:,} characters when compressed, more than the "
                f"{MOST_TEXT:,} that a topology may have"
            )


def with_trace(spec: LinkSpec, known: Mapping[str, bytes]) -> LinkSpec:
    """Return a specification with the content of its trace.

    Raises:
        ValueError: It is not known.
    """
    if not spec.trace:
        return spec
    if spec.trace not in known:
        raise ValueError(f"the content of its trace {spec.trace[:16]} is missing")
    return replace(spec, trace_data=known[spec.trace])


def trace_to_text(content: bytes) -> str:
    """Return a content as text in base64, compressed."""
    return base64.b64encode(zlib.compress(content, 9)).decode()


def trace_from_text(digest: str, text: str) -> bytes:
    """Return the content that `trace_to_text` wrote.

    Raises:
        ValueError: It is not the one of the digest.
    """
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(text), MOST_TRACE_BYTES)
    except (binascii.Error, zlib.error):
        content = b""
    if hashlib.sha256(content).hexdigest() != digest:
        raise ValueError(f"the trace {digest[:16]} is damaged")
    return content
