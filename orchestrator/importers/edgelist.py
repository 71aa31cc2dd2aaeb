"""Read a table of links in CSV.

The first line names the columns: two of them the ends of a link, the others keys of a link, or `forward.KEY`
and `backward.KEY` for one direction. Lines that begin with `#` are comments.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import ImportInvalid, Place, nearest_hint, quoted
from orchestrator.importers.draft import Draft, Imported
from orchestrator.source import Problems, Value, named, parse_option, read_text
from orchestrator.topology.link_keys import LINK_FIELDS, LINK_HINTS, layer, spec_of

__all__ = ["read"]

_ENDS = (("a", "b"), ("source", "target"), ("src", "dst"), ("from", "to"), ("node1", "node2"))
_SIDES = ("forward", "backward")
# A trace is a file beside the table; the topology file may be elsewhere.
_KEYS = tuple(key for key in LINK_FIELDS if key != "trace")
_MOST_PROBLEMS = 100


@dataclass(frozen=True, slots=True)
class _Row:
    """One line: its cells by column, each with its place."""

    cells: dict[str, Value]
    place: Place


def read(path: str | os.PathLike[str], name: str) -> Imported:
    """Return what a table of links means; see `orchestrator.importers.from_csv`."""
    shown = named(path)
    problems = Problems("import")
    text = read_text(Path(path), shown, problems)
    rows = list(_rows(text, shown, problems)) if text is not None else []
    if not rows and not problems:
        problems.add("the table has no links", "empty", Place(shown), expected="a line for each link")
    problems.raise_as(ImportInvalid, shown)
    draft = Draft(shown, "CSV", name or Path(shown).stem)
    ends = _ends(rows[0].cells)
    _add_nodes([value for row in rows for value in (row.cells[ends[0]], row.cells[ends[1]])], draft)
    for row in rows:
        _link(row, ends, draft, problems)
        if len(problems) >= _MOST_PROBLEMS:
            break
    problems.raise_as(ImportInvalid, shown)
    return draft.finish()


def _rows(text: str, file: str, problems: Problems) -> Iterator[_Row]:
    """Yield the lines below the header, after noting what is wrong with them or with it."""
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not lines:
        return
    delimiter = next((sign for sign in (",", ";", "\t") if sign in lines[0][1]), ",")
    columns = _columns(lines[0], delimiter, file, problems)
    if columns is None:
        return
    ends = _ends(columns)
    for number, line in lines[1:]:
        cells = _split(line, delimiter, Place(file, number, 1), problems)
        if cells is None:
            continue
        place = Place(file, number, 1)
        if len(cells) != len(columns):
            message = f"the line has {len(cells)} cells, but the first line has {len(columns)}"
            problems.add(message, "cells", place, found=str(len(cells)), expected=str(len(columns)))
            continue
        read = {
            column: Value(cell, Place(file, number, start), cell)
            for column, (cell, start) in zip(columns, cells, strict=True)
        }
        empty = [end for end in ends if not read[end].data]
        if empty:
            problems.add(f"the column `{empty[0]}` is empty", "empty-cell", read[empty[0]].place)
            continue
        yield _Row(read, place)


def _columns(line: tuple[int, str], delimiter: str, file: str, problems: Problems) -> dict[str, Place] | None:
    """Return the columns that the first line names, with their places; None if it cannot be used."""
    number, text = line
    cells = _split(text, delimiter, Place(file, number, 1), problems)
    if cells is None:
        return None
    noted = len(problems)
    columns: dict[str, Place] = {}
    for cell, start in cells:
        column, place = cell.lower(), Place(file, number, start)
        if column in columns:
            problems.add(f"the column `{column}` stands twice", "duplicate-column", place, found=column)
        columns[column] = place
    ends = _ends(columns)
    if not ends:
        problems.add(
            "the first line names no columns for the ends of a link",
            "header",
            Place(file, number, 1),
            found=text[:60],
            expected="the columns `a` and `b`",
            hint="begin with a line such as `a,b,rate,delay`",
        )
        return None
    for column, place in columns.items():
        side, _, key = column.rpartition(".")
        if column not in ends and (key not in _KEYS or side not in ("", *_SIDES)):
            problems.add(
                f"no key of a link is called `{column}`",
                "column",
                place,
                found=column,
                expected=quoted(_KEYS),
                hint=LINK_HINTS.get(key) or nearest_hint(key, _KEYS, otherwise=f"keys are {quoted(_KEYS)}"),
            )
    return columns if len(problems) == noted else None


def _ends(columns: dict[str, Any]) -> tuple[str, ...]:
    """Return the two columns that name the ends of a link; none if there are none."""
    return next((pair for pair in _ENDS if pair[0] in columns and pair[1] in columns), ())


def _split(line: str, delimiter: str, place: Place, problems: Problems) -> list[tuple[str, int]] | None:
    """Return the cells of a line, each with its column; None after noting why there are none."""
    try:
        cells = next(csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True))
    except csv.Error as error:
        problems.add(f"the line is no CSV: {error}", "csv", place, found=line[:60])
        return None
    found, start = [], 1
    for cell in cells:
        while start <= len(line) and line[start - 1] == " ":
            start += 1
        found.append((cell.strip(), start))
        written = len(cell) + cell.count('"') + 2 if line[start - 1 : start] == '"' else len(cell)
        start += written + 1
    return found


def _add_nodes(ends: Sequence[Value], draft: Draft) -> None:
    """Add the nodes in the order of the table; numbers from 1 without a gap stay what they are."""
    names = list(dict.fromkeys(str(value.data) for value in ends))
    numbers = sorted(int(name) for name in names if name.isdecimal() and len(name) <= 9)
    if numbers == list(range(1, len(names) + 1)):
        names = [str(number) for number in numbers]
    for each in names:
        draft.node(each)


def _link(row: _Row, ends: Sequence[str], draft: Draft, problems: Problems) -> None:
    a, b = (draft.number(str(row.cells[end].data)) for end in ends)
    if a is None or b is None:  # every end was added as a node
        raise AssertionError("an end of a link is no node")
    noted = len(problems)
    keys: dict[str, dict[str, Any]] = {"": {}, "forward": {}, "backward": {}}
    read: dict[str, dict[str, Any]] = {"": {}, "forward": {}, "backward": {}}
    for column, cell in row.cells.items():
        if column in ends or not cell.data:
            continue
        side, _, key = column.rpartition(".")
        value = _value(key, cell, problems)
        if value is not None:
            keys[side][key], read[side][key] = value
    if len(problems) > noted:
        return
    for side in _SIDES:
        try:
            spec_of({**layer(read[""], side), **layer(read[side], side)}).check()
        except ValueError as error:
            problems.add(f"{side}: {error}", "impossible", row.place)
            return
    draft.link(a, b, keys[""] | keys["forward"], keys[""] | keys["backward"])


def _value(key: str, cell: Value, problems: Problems) -> tuple[Any, Any] | None:
    """Return a cell as it is written in a topology file, and as it is read from one."""
    value = parse_option(str(cell.data), cell.place, problems)
    if value is None:
        return None
    distribution = value.get("distribution")
    if key == "jitter" and distribution is not None and "." in str(distribution.data):
        problems.add("a file of delays cannot be named in a table", "file", cell.place, found=cell.text)
        return None
    noted = len(problems)
    read = LINK_FIELDS[key].kind.read(value, key, problems)
    return None if read is None or len(problems) > noted else (value.plain(), read)
