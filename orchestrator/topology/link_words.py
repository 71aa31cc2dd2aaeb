"""Say in words what a link does: as the topology file would state it, for tables and for drawings."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from orchestrator.impairment import FIELDS, FieldKind, LinkSpec, trace_contents
from orchestrator.topology.link_keys import PARTS
from orchestrator.topology.traces import file_name, text_of
from orchestrator.units import Duration, Limit, Rate, Size

__all__ = ["describe", "label", "shown", "traces", "written"]


def written(spec: LinkSpec) -> dict[str, Any]:
    """Return the keys of a link as the topology file states them; reading them returns the same."""
    return {key: _value(spec, key, exact=True) for key in PARTS if _stated(spec, key)}


def shown(spec: LinkSpec) -> dict[str, Any]:
    """Return the keys of a link with their values in the units that people use; see `written`."""
    return {key: _value(spec, key, exact=False) for key in PARTS if _stated(spec, key)}


def traces(specs: Iterable[LinkSpec]) -> dict[str, str]:
    """Return the files of traces that `written` names, with their texts."""
    return {file_name(name, content): text_of(content) for name, content in trace_contents(specs).items()}


def describe(spec: LinkSpec) -> str:
    """Return what one direction does, key by key, as tables show it."""
    parts: list[str] = []
    for key in PARTS:
        if not _stated(spec, key):
            continue
        value = _value(spec, key, exact=False)
        if not isinstance(value, dict):
            parts.append(_pair(key, value))
            continue
        main, *others = value.items()
        more = ", ".join(_pair(part, below) for part, below in others)
        parts.append(f"{key} {main[1]} ({more})")
    return ", ".join(parts) or "plain"


def label(spec: LinkSpec) -> str:
    """Return what one direction does in a few words, or nothing if it passes packets untouched."""
    parts: list[str] = []
    for key in PARTS:
        if key == "jitter" or not _stated(spec, key):
            continue
        value = _value(spec, key, exact=False)
        short = next(iter(value.values())) if isinstance(value, dict) else value
        if key == "delay" and spec.jitter_us is not None:
            short = f"{short} ± {Duration(spec.jitter_us)}"
        if key == "loss" and spec.loss_burst is not None:
            short = f"{short} in bursts of {spec.loss_burst:g}"
        plain = key in ("rate", "delay", "loss", "limit", "queue", "scheduler")
        parts.append(str(short) if plain else _pair(key, short))
    return " · ".join(parts)


def _stated(spec: LinkSpec, key: str) -> bool:
    return any(getattr(spec, name) is not None for name in PARTS[key].values())


def _pair(key: str, value: Any) -> str:
    if value is True:
        return key
    if isinstance(value, dict):
        return f"{key} " + ", ".join(f"{name}: {below}" for name, below in value.items())
    if isinstance(value, list):
        return f"{key} of {len(value)} delays"
    return f"{key} {'no' if value is False else value}"


def _value(spec: LinkSpec, key: str, *, exact: bool) -> Any:
    """Return the short form of a key where that says everything, else the full one."""
    if key == "limit":
        packets = spec.limit_packets
        return str(Limit(spec.limit_bytes if packets is None else None, packets, spec.limit_us))
    if key == "trace":
        return _trace(spec, exact=exact)
    full: dict[str, Any] = {}
    for part, name in PARTS[key].items():
        value = getattr(spec, name)
        if name == "jitter_table" or value is None:
            continue
        if value == "table":
            value = list(spec.jitter_table or ())
        full[part] = _text(name, value, exact=exact)
    main = next(iter(PARTS[key]))
    return full[main] if list(full) == [main] else full


def _trace(spec: LinkSpec, *, exact: bool) -> Any:
    """Return how a trace is played; in the exact form, its file is the one of `traces`."""
    if not spec.trace:
        return "none"
    full: dict[str, Any] = {"file": spec.trace_file}
    if exact and spec.trace_data:
        full["file"] = file_name(spec.trace, spec.trace_data)
    full["loop"] = bool(spec.trace_loop)
    if spec.trace_scale not in (None, 1):
        full["scale"] = spec.trace_scale if exact else f"{spec.trace_scale:g}"
    if spec.trace_shift_us:
        full["shift"] = str(Duration(spec.trace_shift_us))
    if not exact and spec.trace_rate_bps:
        full["mean"] = str(Rate(round(float(f"{spec.trace_rate_bps:.3g}"))))
    return full


def _text(name: str, value: Any, *, exact: bool) -> Any:
    match FIELDS[name].kind:
        case FieldKind.RATE:
            return str(Rate(value))
        case FieldKind.DURATION:
            return str(Duration(value))
        case FieldKind.SIZE:
            return str(Size(value))
        case FieldKind.PROBABILITY if not exact:
            return f"{value * 100:.6g} %"
        case FieldKind.PROBABILITY:
            # A bare 1 would be ambiguous and is refused.
            return "100 %" if value == 1 else value
        case FieldKind.NUMBER if not exact:
            return f"{value:g}"
        case FieldKind.WEIGHTS:
            return {str(number): weight for number, weight in value.items()}
        case _:
            return value
