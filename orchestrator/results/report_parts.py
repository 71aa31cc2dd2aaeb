"""What a report says besides plots, as plain text: what happened, what links did, logs, and the manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestrator.impairment import LinkSpec
from orchestrator.results.reading import RunFolder
from orchestrator.topology.link_words import describe

__all__ = ["Happened", "LinkRow", "happened", "host_line", "link_rows", "manifest"]

MOST_EVENTS = 400
"""Events that a report lists; of more, the first half and the last half."""

LONGEST = 300
"""Characters of one text."""

_BIG = frozenset({"fidelity", "checks", "failures", "plots", "rows", "reason", "unwritten"})
"""Keys of `run.json` that a report shows elsewhere."""


@dataclass(frozen=True)
class Happened:
    """One event.

    Attributes:
        time: Seconds from the start of the run, as text.
        what: Its kind; of a change of the timeline, what was done.
        where: The link, the node or the role.
        details: Values.
        level: `change`, `bad` or nothing.
    """

    time: str
    what: str
    where: str = ""
    details: str = ""
    level: str = ""


def happened(run: RunFolder) -> tuple[list[Happened], str]:
    """Return what happened, in order, and a sentence about what is left out."""
    events = run.events
    left = len(events) - MOST_EVENTS
    if left > 0:
        events = [*events[: MOST_EVENTS // 2], *events[-MOST_EVENTS // 2 :]]
    start = _moment(run.document.get("started"))
    note = f"{left} events in the middle are left out; events.jsonl has them" if left > 0 else ""
    return [_happened(event, start) for event in events], note


def _happened(event: Mapping[str, Any], start: datetime | None) -> Happened:
    moment = _moment(event["time"])
    time = f"{(moment - start).total_seconds():.3f}" if moment and start else str(event["time"])
    data: Any = event["data"]
    kind = str(event["kind"])
    where = ", ".join(
        part for part in (f"node {event['node']}" if event["node"] else "", str(event["role"])) if part
    )
    if kind == "timeline" and isinstance(data, dict):
        return _change(time, where, data)
    if kind == "timeline_planned" and isinstance(data, dict):
        return Happened(time, kind, where, f"{len(data.get('changes') or ())} changes")
    bad = isinstance(data, dict) and (data.get("ok") is False or data.get("error"))
    if kind == "role_finished" and not bad:
        return Happened(time, kind, where)
    return Happened(time, kind, where, _compact(data), "bad" if bad else "")


def _change(time: str, by: str, data: Mapping[str, Any]) -> Happened:
    """A change of a link or a node, with its values and how late it was."""
    change = data.get("change")
    change = change if isinstance(change, dict) else {}
    said = [_spec(change["spec"])] if change.get("spec") else []
    if change.get("backward") not in (None, change.get("spec")):
        said.append(f"back: {_spec(change['backward'])}")
    if change.get("cause"):
        said.append(f"({change['cause']})")
    if by:
        said.append(f"by {by}")
    if isinstance(data.get("late_ms"), int | float):
        said.append(f"{data['late_ms']:.1f} ms late")
    if data.get("error"):
        said.append(str(data["error"]))
    what = str(change.get("fault") or data.get("do", ""))
    level = "bad" if data.get("ok") is False else "change"
    return Happened(time, what, str(data.get("where", "")), _cut(" ".join(said)), level)


def _spec(raw: Any) -> str:
    try:
        return describe(LinkSpec.from_wire(raw))
    except (ValueError, TypeError, AttributeError, KeyError):
        return _compact(raw)


@dataclass(frozen=True)
class LinkRow:
    """One direction of a link: what was requested and what was measured, as texts."""

    link: str
    requested: str
    rate: str
    delay: str
    delay_p99: str
    late_p99: str
    loss: str
    packets: str
    drops: str
    state: str
    reason: str


def link_rows(fidelity: Mapping[str, Any]) -> Iterator[LinkRow]:
    """Yield the links of the fidelity report."""
    for entry in fidelity.get("links") or ():
        requested, measured = entry.get("requested") or {}, entry.get("measured") or {}
        a, b = entry.get("a"), entry.get("b")
        link = f"{a} → {b}" if entry.get("direction") == "forward" else f"{b} → {a}"
        wanted = [
            f"rate {_rate(requested.get('rate'))}" if requested.get("rate") else "",
            f"delay {_time(requested.get('delay'))}" if requested.get("delay") else "",
            f"jitter {_time(requested.get('jitter'))}" if requested.get("jitter") else "",
            f"loss {_share(requested.get('loss'))}" if requested.get("loss") else "",
        ]
        ok = entry.get("ok")
        drops = measured.get("drops") or {}
        broken = ", ".join(str(each) for each in entry.get("broken") or ())
        yield LinkRow(
            link=link,
            requested=", ".join(each for each in wanted if each),
            rate=_rate(measured.get("rate")),
            delay=_time(measured.get("delay_mean")),
            delay_p99=_time(measured.get("delay_p99")),
            late_p99=_time(measured.get("late_p99")),
            loss=_share(measured.get("loss")),
            packets="" if measured.get("packets") is None else str(measured["packets"]),
            drops=", ".join(f"{cause} {count}" for cause, count in drops.items()),
            state="kept" if ok else "broken" if ok is False else "not judged",
            reason=broken or str(entry.get("not_judged") or ""),
        )


def host_line(fidelity: Mapping[str, Any]) -> str:
    """Return what the nodes took of the machine, and which nodes are missing."""
    host = fidelity.get("host") or {}
    parts = []
    if isinstance(host.get("cpu_share"), int | float):
        parts.append(f"the nodes used {host['cpu_share']:.1%} of the machine's CPU time")
    if "overload_drops" in host:
        parts.append(f"{host['overload_drops']} packets were dropped because the machine was overloaded")
    if missing := fidelity.get("nodes_missing"):
        parts.append(f"nodes {', '.join(map(str, missing))} did not say what they had measured")
    if omitted := fidelity.get("links_omitted"):
        parts.append(f"{omitted} directions of links are left out")
    return "; ".join(parts)


def manifest(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what `run.json` says about how the run came about, flat, in its order."""
    return list(_flat("", {key: value for key, value in document.items() if key not in _BIG}))


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value and prefix.count(".") < 4:
        for key, below in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), below)
    elif value not in (None, ""):
        yield prefix, value if isinstance(value, str) and len(value) <= LONGEST else _compact(value)


def _compact(value: Any) -> str:
    """A value as short JSON without nulls at its top."""
    if value is None:
        return ""
    if isinstance(value, dict):
        value = {key: each for key, each in value.items() if each not in (None, "", [], {})}
        if not value:
            return ""
    return _cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _moment(text: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _rate(value: Any) -> str:
    return _scaled(value, ((1e9, "Gbit/s"), (1e6, "Mbit/s"), (1e3, "kbit/s"), (1.0, "bit/s")))


def _time(value: Any) -> str:
    return _scaled(value, ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")))


def _share(value: Any) -> str:
    return f"{100 * value:.3g} %" if isinstance(value, int | float) else ""


def _scaled(value: Any, scales: Sequence[tuple[float, str]]) -> str:
    if not isinstance(value, int | float):
        return ""
    factor, unit = next((each for each in scales if abs(value) >= each[0]), scales[-1])
    return f"{value / factor:.4g} {unit}"
