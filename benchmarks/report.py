"""Format records as tables for the terminal and the documentation. Pure: a record in, text out.

Everything is generated from the stored JSON, so that the page can be generated again from the published
records without measuring anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.chaos import recovery_report
from benchmarks.chaos import report as chaos
from benchmarks.fidelity import report as fidelity
from benchmarks.tables import number, table
from benchmarks.targets import TARGETS, Target, target
from benchmarks.transfers import report as transfers

__all__ = ["number", "page", "table", "text"]

Record = Mapping[str, Any]

_RENAMED = {
    "max mode is not built yet": "left out of this run",
    "max mode (per-flow TCP ended at the edge) is not implemented yet": "left out of this run",
    "memory of packets": "packet buffer allocation",
    "our own code": "user space",
    "soft interrupts": "softirqs",
}
"""Texts of older records, with the words used now."""

_INTRO = """\
# Benchmarks

Results of the testbed, compared with the kernel's own forwarding on the same machine, measured alternately.
This page is generated from the records in `benchmarks/results/`, which `python -m benchmarks.dataplane
--publish` and `benchmarks.scale`, `daily`, `fidelity`, `chaos`, `transfers`, `services`, `attach` and
`metrics` write; `make bench` runs the first four without publishing.

REF is one TCP stream through two kernel veth hops (one router namespace, MTU 1500, offloads on, cubic, each
device's packets received on one CPU: else the kernel reorders the stream and is several times slower). A
ratio is the median over rounds of the value divided by its reference in the same round. *Gate*, *target* and
*stretch* are the thresholds of the grades; the gate is the least that counts as done. Claims are numbers that
others published, from other hardware; no ratio here contains one.
"""


def text(record: Record) -> str:
    """Return one record as it is printed at the end of a run."""
    return "\n".join(_sections(record))


def page(records: Mapping[str, Record]) -> str:
    """Return the page of the documentation made from the published records."""
    rows = [row for record in records.values() for row in record["rows"] if _belongs(record, row)]
    parts = [_INTRO]
    if not records:
        parts.append("No run has been published yet.")
    if rows:
        parts += ["## Targets\n", _targets_table(rows)]
    for name, record in records.items():
        parts += [f"\n## Run of `{_command(name)}`\n", *_sections(record, with_targets=False)]
    return "\n".join(parts).rstrip() + "\n"


def _command(name: str) -> str:
    """Return the command whose run a record stores."""
    program, _, backend = name.partition("-")
    return f"benchmarks.chaos --heal --backend {backend}" if program == "healing" else f"benchmarks.{name}"


def _sections(record: Record, *, with_targets: bool = True) -> list[str]:
    parts = [_machine(record["machine"])]
    if with_targets and record["rows"]:
        parts += ["### Targets\n", _targets_table([row for row in record["rows"] if _belongs(record, row)])]
    if record["benchmark"] == "dataplane":
        parts += ["### Cases\n", _cases_table(record), _rounds_note(record)]
        if record.get("costs"):
            parts += ["### CPU time of the packet path\n", _costs_text(record["costs"])]
    elif record["benchmark"] == "scale":
        parts += ["### Figures\n", _figures_table(record)]
    elif record["benchmark"].startswith("healing-"):
        parts += recovery_report.sections(record)
    elif record["benchmark"] == "chaos":
        parts += chaos.sections(record)
    elif record["benchmark"] == "fidelity":
        parts += fidelity.sections(record)
    elif record["benchmark"] == "transfers":
        parts += transfers.sections(record)
    else:
        parts += ["### Limits\n", _limits_table(record)]
    if record.get("checks"):
        parts += ["### Path checks\n", _checks_table(record)]
    if record.get("not_runnable"):
        parts += ["### Not runnable here\n", _reasons(record["not_runnable"])]
    parts.append(_kernel_note(record))
    return parts


def _belongs(record: Record, row: Mapping[str, Any]) -> bool:
    return bool((row["row"] <= 9) == (record["benchmark"] == "dataplane"))


def _targets_table(rows: Sequence[Mapping[str, Any]]) -> str:
    by_number = {row["row"]: row for row in rows}
    lines = [
        _target_line(target(n), by_number[n]) for n in (each.number for each in TARGETS) if n in by_number
    ]
    header = ("#", "Metric", "Gate", "Target", "Stretch", "Reached", "Grade", "Claimed, other hardware")
    notes = [f"- Target {n}: {note}" for n in sorted(by_number) if (note := _note(by_number[n]))]
    return table(header, lines, right=frozenset({0, 2, 3, 4, 5})) + "\n" + "\n".join(notes) + "\n"


def _target_line(entry: Target, row: Mapping[str, Any]) -> list[str]:
    thresholds = [number(value, entry.unit) for value in (entry.gate, entry.target, entry.stretch)]
    reached = number(row["reached"], entry.unit)
    return [str(entry.number), entry.metric, *thresholds, reached, row["grade"], entry.claim]


def _note(row: Mapping[str, Any]) -> str:
    return "; ".join(_current(part) for part in (row["basis"], row["note"]) if part)


def _current(text: str) -> str:
    """Return a text of a record in the words used now; older records are shown without being rewritten."""
    return _RENAMED.get(text, text)


def _cases_table(record: Record) -> str:
    lines = []
    for case in record["cases"]:
        for kind in ("pinned", "unpinned"):
            found = case[kind]
            if found is not None:
                lines.append(_case_line(case, found, kind))
        if case["pinned"] is None and case["unpinned"] is None:
            lines.append([case["name"], "–", "not runnable", *["–"] * 6, case["reason"]])
    header = (
        "Case",
        "CPUs",
        "Median",
        "Best",
        "Reference",
        "Paired",
        "Best/best",
        "CPU s/Gbit",
        "Retr.",
        "All",
    )
    return table(header, lines, right=frozenset({2, 3, 5, 6, 7, 8}))


def _case_line(case: Mapping[str, Any], found: Mapping[str, Any], kind: str) -> list[str]:
    return [
        case["name"],
        kind,
        number(found["median"], case["unit"]),
        number(found["best"]),
        found["reference"] or "–",
        number(found["paired"]),
        number(found["best_to_best"]),
        number(found["cpu_seconds_per_gigabit"]),
        "–" if found["retransmits"] is None else str(found["retransmits"]),
        " ".join(number(value) for value in found["values"]),
    ]


def _rounds_note(record: Record) -> str:
    settings = record["settings"]
    timing = settings["timing"]
    pinned = sum(1 for entry in record["rounds"] if entry["pinned"])
    lines = [
        f"{pinned} pinned and {len(record['rounds']) - pinned} unpinned rounds; each sample "
        f"{timing['seconds']} s after {timing['warm_up']} s of warm-up."
    ]
    lines += [f"Round {entry['number']} does not count: {entry['reason']}." for entry in record["discarded"]]
    if not record["discarded"]:
        lines.append("No round was discarded.")
    return "\n".join(lines) + "\n"


def _costs_text(profiles: Mapping[str, Mapping[str, Any]]) -> str:
    parts = ["CPU time of the relays' threads by kind, sampled with perf in a separate measurement.\n"]
    for case, profile in profiles.items():
        if "reason" in profile:
            parts.append(f"`{case}`: not profiled: {profile['reason']}.\n")
            continue
        three = ", ".join(f"{_current(cost['kind'])} ({cost['share']:.0%})" for cost in profile["costs"][:3])
        parts.append(f"`{case}`, the three largest: {three}.\n")
        lines = [
            [
                _current(cost["kind"]),
                f"{cost['share']:.1%}",
                ", ".join(f"`{name}`" for name in cost["symbols"]),
            ]
            for cost in profile["costs"]
        ]
        parts.append(table(("Kind", "Share", "Largest symbols"), lines, right=frozenset({1})))
    return "\n".join(parts)


def _figures_table(record: Record) -> str:
    lines = [
        [entry["title"], number(entry["value"], entry["unit"]), entry["detail"]]
        for entry in record["figures"]
    ]
    return table(("Figure", "Value", "How"), lines, right=frozenset({1}))


def _limits_table(record: Record) -> str:
    results = {True: "kept", False: "MISSED", None: "not measured"}
    lines = []
    for entry in record["goals"]:
        limit = entry["goal"]
        bound = ("≥ " if limit["at_least"] else "≤ ") + number(limit["bound"], limit["unit"])
        reached = number(entry["value"], limit["unit"])
        lines.append([limit["title"], bound, reached, results[entry["ok"]], entry["detail"]])
    return table(("What", "Limit", "Reached", "Result", "How"), lines, right=frozenset({1, 2}))


def _checks_table(record: Record) -> str:
    lines = [
        [check["path"], check["name"], "ok" if check["ok"] else "FAILED", check["detail"]]
        for check in record["checks"]
    ]
    return table(("Path", "Check", "Result", "Observed"), lines)


def _reasons(reasons: Mapping[str, str]) -> str:
    return "\n".join(f"- `{name}`: {reason}" for name, reason in reasons.items()) + "\n"


def _wake_up(machine: Mapping[str, Any]) -> str:
    if "wake_up_us" not in machine:  # a record made before this was measured
        return ""
    return f"Waking an idle thread and being woken by it takes {machine['wake_up_us']:.0f} µs.\n\n"


def _machine(machine: Mapping[str, Any]) -> str:
    flags = machine["kernel_config"]
    lacks = ", ".join(name for name, value in flags.items() if value == "n") if flags else "unknown"
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    memory = f"{machine['memory_bytes'] / 2**30:.0f} GiB"
    return (
        f"{machine['date']} · {machine['cores']} × {machine['cpu']} · {memory} · "
        f"kernel {machine['kernel']} · default congestion control {machine['congestion_control']} · "
        f"load {machine['load_average']:.1f} at the start · commit {machine['commit']}\n\n"
        f"{_wake_up(machine)}"
        f"Not in this kernel: {lacks}. Versions: {versions}.\n"
    )


def _kernel_note(record: Record) -> str:
    if "sysctls_restored" not in record:
        return ""
    changed = record["sysctls_restored"]
    if not changed:
        return "No machine-wide kernel setting was changed.\n"
    failed = record.get("sysctls_not_restored") or []
    tail = f"; these could not be: {', '.join(failed)}" if failed else ""
    return f"Kernel settings that a peer changed were restored: {', '.join(sorted(changed))}{tail}.\n"
