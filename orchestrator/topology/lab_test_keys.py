"""The keys of an entry of `tests:`; which ones an entry may have depends on what it tests."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from orchestrator import units
from orchestrator.errors import nearest_hint, quoted
from orchestrator.fields import Field, Integer, Kind, ListOf, OneOfTables, Table, Text, Unit
from orchestrator.source import Problems, Value
from orchestrator.topology.kinds import NodeRef, Placed, SelectorText
from orchestrator.topology.link_keys import DURATION_FORM, FRACTION_FORM, RATE_FORM
from orchestrator.topology.model import Output

__all__ = ["LAB_TESTS", "LabTestKind"]


class OutputKind(Kind):
    """An output: text, `{contains: TEXT}` or `{matches: EXPRESSION}`."""

    expected = "text, `{contains: TEXT}` or `{matches: EXPRESSION}`"
    _how = ("contains", "matches")

    def read(self, value: Value, name: str, problems: Problems) -> Output | None:
        """Return what is expected; a regular expression has to compile."""
        how, text = "equals", value
        if value.mapping is not None:
            if len(value.mapping) != 1 or next(iter(value.mapping)) not in self._how:
                self.wrong(value, name, problems, f"known keys are {quoted(self._how)}, one of them")
                return None
            how, text = next(iter(value.mapping.items()))
        if text.mapping is not None or text.sequence is not None or text.data is None:
            self.wrong(text, name, problems)
            return None
        written = text.data if isinstance(text.data, str) else text.text
        if how == "matches":
            try:
                re.compile(written)
            except re.error as error:
                problems.add(
                    f"{name} is no regular expression: {error}", "test-output", text.place, found=written
                )
                return None
        return Output(how, written)

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        one = {"type": ["string", "number", "boolean"]}
        long = {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": False,
        }
        return {"anyOf": [one, {**long, "patternProperties": {"^(contains|matches)$": {"type": "string"}}}]}


class CommandKind(Kind):
    """A command: text that is split into words as a shell would, or a list of words."""

    expected = "a command such as `redis-cli ping`, or a list of its words"

    def read(self, value: Value, name: str, problems: Problems) -> tuple[str, ...] | None:
        """Return its words."""
        if value.sequence is not None:
            words = [item.data if isinstance(item.data, str) else item.text for item in value.sequence]
            if words and all(item.mapping is None and item.sequence is None for item in value.sequence):
                return tuple(words)
        elif isinstance(value.data, str):
            try:
                words = shlex.split(value.data)
            except ValueError as error:
                hint = "close the quotation"
                problems.add(
                    f"{name} cannot be split into words: {error}",
                    "form",
                    value.place,
                    found=value.text,
                    hint=hint,
                )
                return None
            if words:
                return tuple(words)
        self.wrong(value, name, problems)
        return None

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        words = {"type": "array", "items": {"type": ["string", "number"]}, "minItems": 1}
        return {"anyOf": [{"type": "string"}, words]}


class Bounds(Table):
    """A mapping of `min`, `max` or both."""

    def __init__(self, name: str, unit: Kind, what: str) -> None:
        least, most = Field(unit, f"{what} is at least this"), Field(unit, f"{what} is at most this")
        super().__init__(name, {"min": least, "max": most})

    def read(self, value: Value, name: str, problems: Problems) -> dict[str, Any] | None:
        """Return the bounds, at least one, and the larger one last."""
        noted = len(problems)
        read = super().read(value, name, problems)
        if read is None or len(problems) > noted:
            return None
        if not read:
            problems.add(
                f"{name} has neither `min` nor `max`",
                "test-bounds",
                value.place,
                expected="`min`, `max` or both",
            )
            return None
        if len(read) == 2 and read["min"] > read["max"]:
            problems.add(
                f"min of {name} is above its max",
                "test-bounds",
                value.place_of("min"),
                found=f"min {read['min']}, max {read['max']}",
                expected="a min that is not above the max",
            )
            return None
        return read


def _span(least_us: int, *examples: str) -> Unit:
    return Unit(
        units.parse_duration,
        f"a duration such as `{examples[0]}`",
        pattern=DURATION_FORM,
        examples=examples,
        least=units.Duration(least_us),
        most=units.Duration(3_600_000_000),
    )


_RATE = Unit(
    units.parse_rate,
    "a rate such as `90 Mbit`",
    pattern=RATE_FORM,
    examples=("90 Mbit",),
)
_SHARE = Unit(
    units.parse_fraction,
    "a share such as `1 %`",
    pattern=FRACTION_FORM,
    examples=("1 %",),
)
_COMMON: Mapping[str, Field] = {
    "name": Field(Text(most=120), "what it is called in the result; made from what it tests unless given"),
    "wait": Field(_span(0, "10 s"), "how long it is tried again until it holds", default="0 s"),
    "timeout": Field(_span(100_000, "30 s"), "when an attempt is ended", default="30 s"),
}
_FROM = Field(SelectorText(), "the nodes at which it begins", required=True)
_TO = Field(SelectorText(), "the nodes at which it ends", required=True)
_NODE = Field(SelectorText(), "the nodes in which it runs", required=True)
_HINTS = {"nodes": "write `from` and `to`, or `node` for a command", "retry": "did you mean `wait`?"}


def _test(kind: str, fields: Mapping[str, Field]) -> Placed:
    return Placed(f"test `{kind}`", {**fields, **_COMMON}, hints=_HINTS)


LAB_TESTS: Mapping[str, Placed] = {
    "reach": _test(
        "reach",
        {
            "reach": Field(
                SelectorText(), "these nodes answer a ping, each from each of `from`", required=True
            ),
            "from": Field(SelectorText(), "the nodes that ping; those of `reach` unless given"),
        },
    ),
    "tcp": _test(
        "tcp",
        {
            "tcp": Field(Integer(1, 65_535, "a port"), "this port accepts a TCP connection", required=True),
            "from": _FROM,
            "to": _TO,
        },
    ),
    "http": _test(
        "http",
        {
            "http": Field(
                Text(r"https?://[^\s/]+(/\S*)?", "a URL such as `http://node-1:8000/`"),
                "a GET of this URL is answered; redirects are not followed",
                required=True,
            ),
            "from": _FROM,
            "status": Field(Integer(100, 599, "an HTTP status"), "the status of the answer", default=200),
        },
    ),
    "command": _test(
        "command",
        {
            "command": Field(CommandKind(), "this command ends as expected", required=True),
            "node": _NODE,
            "exit_code": Field(Integer(0, 255, "an exit code"), "its exit code", default=0),
            "output": Field(
                OutputKind(),
                "what it prints to stdout, white space at the ends aside; `{contains: TEXT}` for a part of "
                "it, `{matches: EXPRESSION}` for a regular expression",
            ),
        },
    ),
    "route": _test(
        "route",
        {"route": Field(ListOf(NodeRef(), "node", least=2), "packets take these nodes", required=True)},
    ),
    "throughput": _test(
        "throughput",
        {
            "throughput": Field(
                Bounds("throughput", _RATE, "the rate at which the data of a TCP stream arrive"),
                "what a TCP stream reaches",
                required=True,
            ),
            "from": _FROM,
            "to": _TO,
            "duration": Field(
                _span(200_000, "2 s"), "how long it is measured, after 1 s of warm-up", default="2 s"
            ),
        },
    ),
    "loss": _test(
        "loss",
        {
            "loss": Field(
                Bounds("loss", _SHARE, "the share of datagrams that do not arrive"),
                "how many datagrams are lost, one way",
                required=True,
            ),
            "from": _FROM,
            "to": _TO,
            "packets": Field(
                Integer(10, 100_000, "a number of packets"),
                "how many are sent, 1,000 a second",
                default=1_000,
            ),
        },
    ),
    "delay": _test(
        "delay",
        {
            "delay": Field(
                Bounds("delay", _span(0, "40 ms"), "the median of the delays"),
                "how long datagrams take, one way",
                required=True,
            ),
            "from": _FROM,
            "to": _TO,
            "packets": Field(
                Integer(1, 100_000, "a number of packets"), "how many are sent, 100 a second", default=50
            ),
        },
    ),
    "from": _test(
        "from, to",
        {
            "from": Field(SelectorText(), "these nodes ping those of `to`, as with `reach`", required=True),
            "to": Field(SelectorText(), "the nodes that answer", required=True),
        },
    ),
}
"""The keys of a test by the key that says what is tested; `from` and `to` alone are a test of `reach`."""
_KINDS = tuple(key for key in LAB_TESTS if key != "from")


class LabTestKind(OneOfTables):
    """One test: a mapping with exactly one of the keys of `LAB_TESTS`, under `kind!` when read."""

    def __init__(self) -> None:
        super().__init__(LAB_TESTS, "kind!", "a mapping such as `{reach: all}`")

    def found(self, keys: Collection[str]) -> list[str]:
        """Return what is tested; `from` and `to` say it only where nothing else does."""
        found = [key for key in _KINDS if key in keys]
        return found if found or not {"from", "to"} <= set(keys) else ["from"]

    def refuse(self, value: Value, found: Sequence[str], problems: Problems) -> None:
        """Note that nothing is tested, or several things."""
        keys = value.mapping or {}
        hint: str | None
        if found:
            message, place = f"the test says {quoted(found)}, but tests one thing", value.key_place(found[1])
            hint = "write a test for each"
        else:
            known = {"from", "to", "node", *_COMMON}
            unknown = next((key for key in keys if key not in known), "")
            message, place = "the test does not say what is tested", value.place
            hint = nearest_hint(unknown, _KINDS, otherwise="such as `reach: all`")
        problems.add(
            message,
            "test-kind",
            place,
            found=", ".join(keys),
            expected=f"one of {quoted(_KINDS)}",
            hint=hint,
        )
