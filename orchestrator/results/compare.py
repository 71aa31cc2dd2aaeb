"""Compare two runs or sweeps: what they measured, and what else is different about them.

Runs of one combination are a group; each that came to its end gives one value for a column. Groups are
compared where both sides have the combination. The test is that of Mann and Whitney, which asks for no
distribution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from orchestrator.errors import counted
from orchestrator.results.bundle import Bundle, read_rows
from orchestrator.results.statistics import SIGNIFICANCE, difference_p, numeric_columns
from orchestrator.results.tables import ResultTable

__all__ = ["compare", "comparison_tables", "environment_differences"]

TOO_FEW = "not enough repetitions"
_COMPARED = (
    "scenario",
    "backend",
    "seed",
    "params",
    "timeout",
    "repeat",
    "versions",
    "host",
    "topology",
    "topology_of",
    "origin",
    "files",
)
"""What of `run.json` and `sweep.json` is compared: all that may explain a difference."""

_LEFT_OUT = frozenset({"host.memory_bytes", "topology.processes"})
_MOST_KEYS = 40

Key = tuple[tuple[str, str], ...]


def compare(a: Bundle, b: Bundle) -> dict[str, Any]:
    """Return what differs.

    Returns:
        `a` and `b`, their names; `differences`, an entry for each combination, role and numeric column that
        both have, `equal` if all their runs have one value; `only_a` and `only_b`, combinations of one side;
        `environment`, keys of the manifests that differ. `larger_than_noise` of a difference is null where
        there are too few runs to say.
    """
    first, second = _groups(a), _groups(b)
    found = []
    for key in first:
        if key not in second:
            continue
        for column, values in first[key].items():
            others = second[key].get(column)
            if others:
                found.append({"params": dict(key), **_difference(column, values, others)})
    return {
        "a": a.name,
        "b": b.name,
        "differences": found,
        "only_a": [dict(key) for key in first if key not in second],
        "only_b": [dict(key) for key in second if key not in first],
        "environment": environment_differences(_with_links(a), _with_links(b)),
    }


def environment_differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the keys of two manifests that differ, such as `versions.kernel`, with both values.

    What was requested of links is among them (`link 1-2 forward.delay`): it may have been changed by hand.
    """
    first, second = dict(_flat(a)), dict(_flat(b))
    keys = [*first, *(key for key in second if key not in first)]
    return [
        {"key": key, "a": first.get(key), "b": second.get(key)}
        for key in keys
        if first.get(key) != second.get(key)
    ]


def comparison_tables(comparison: Mapping[str, Any]) -> list[ResultTable]:
    """Return a comparison as tables for people."""
    a, b = comparison["a"], comparison["b"]
    differing = [each for each in comparison["differences"] if not each["equal"]]
    measured = tuple(
        (
            " ".join(f"{key}={value}" for key, value in each["params"].items()),
            f"{each['role']}.{each['column']}",
            f"{each['a']:.5g} ({each['n_a']})",
            f"{each['b']:.5g} ({each['n_b']})",
            f"{each['difference']:+.4g}"
            + (f" ({each['relative']:+.1%})" if each["relative"] is not None else ""),
            _said(each),
        )
        for each in differing
    )
    tested = sum(1 for each in differing if each["p"] is not None)
    note = "medians, in brackets the number of runs"
    if tested:
        note += f"; of {tested} tested columns, chance alone makes about {tested * SIGNIFICANCE:.1f} differ"
    if equal := len(comparison["differences"]) - len(differing):
        note += f"; {counted(equal, 'column')} the same in all runs left out"
    heads = ("combination", "column", "A", "B", "B - A", "larger than the noise?")
    environment = tuple(
        (each["key"], _text(each["a"]), _text(each["b"])) for each in comparison["environment"][:_MOST_KEYS]
    )
    left = len(comparison["environment"]) - len(environment)
    shown = [ResultTable(f"A: {a}\nB: {b}", heads, measured, note)] if comparison["differences"] else []
    if environment:
        more = f"and {left} more with `-o json`" if left > 0 else ""
        shown.append(ResultTable("what else differs", ("key", "A", "B"), environment, more))
    return shown


def _groups(bundle: Bundle) -> dict[Key, dict[tuple[str, str], list[float]]]:
    groups: dict[Key, dict[tuple[str, str], list[float]]] = {}
    for run in bundle.runs:
        if run.document.get("verdict") == "error":
            continue
        values = run.part.get("values", {}) if bundle.kind == "sweep" else {}
        key = tuple((str(name), str(value)) for name, value in values.items())
        columns = groups.setdefault(key, {})
        for column, value in numeric_columns(read_rows(run)).items():
            columns.setdefault(column, []).append(value)
    return groups


def _difference(column: tuple[str, str], values: list[float], others: list[float]) -> dict[str, Any]:
    first, second = median(values), median(others)
    p = difference_p(values, others)
    return {
        "role": column[0],
        "column": column[1],
        "a": first,
        "b": second,
        "difference": second - first,
        "relative": (second - first) / abs(first) if first else None,
        "n_a": len(values),
        "n_b": len(others),
        "p": p,
        "larger_than_noise": None if p is None else p < SIGNIFICANCE,
        "reason": TOO_FEW if p is None else "",
        "equal": len({*values, *others}) == 1,
    }


def _said(difference: Mapping[str, Any]) -> str:
    if difference["p"] is None:
        return TOO_FEW
    return f"{'yes' if difference['larger_than_noise'] else 'no'}, p = {difference['p']:.3f}"


def _with_links(bundle: Bundle) -> Mapping[str, Any]:
    """The manifest, that of a sweep with what was requested of links in its first run."""
    if bundle.kind == "run":
        return bundle.document
    first = next(iter(bundle.runs), None)
    return {**bundle.document, "fidelity": first.document.get("fidelity") if first else None}


def _flat(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for head in _COMPARED:
        if head in document:
            yield from _walk(head, document[head])
    for link in (document.get("fidelity") or {}).get("links", ()):
        if not link.get(
            "changes"
        ):  # what changes during a run is the scenario's doing, and never quite the same
            yield from _walk(f"link {link['a']}-{link['b']} {link['direction']}", link.get("requested") or {})


def _walk(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, below in value.items():
            yield from _walk(f"{path}.{key}", below)
    elif path.endswith(".sha256") if path.startswith("files.") else path not in _LEFT_OUT:
        yield path, value


def _text(value: Any) -> str:
    return "none" if value is None else str(value)
