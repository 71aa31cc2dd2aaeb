"""The keys of an entry of `timeline:`; which ones an entry may have depends on what it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator import units
from orchestrator.errors import nearest_hint, quoted
from orchestrator.fields import Boolean, Choice, Field, Integer, Kind, ListOf, OneOfTables, Text, Unit
from orchestrator.source import Problems, Value
from orchestrator.topology.kinds import NodeRef, Placed
from orchestrator.topology.link_keys import DURATION_FORM, LIVE_FIELDS

__all__ = ["ACTIONS", "MOST_STEPS", "NODE_FAULTS", "EntryKind"]

NODE_FAULTS = ("kill", "stop", "start", "pause", "unpause")
"""What can be done to a node."""

MOST_STEPS = 1_000
"""Steps of one ramp."""


class Groups(Kind):
    """The groups of a partition, such as `1,2|3,4` or `[[1, 2], [3, 4]]`; handed on as the value."""

    expected = "groups of nodes such as `1,2|3,4`"

    def read(self, value: Value, name: str, problems: Problems) -> Value | None:
        """Return the value itself if it has the form of groups."""
        lists = value.sequence
        if isinstance(value.data, str) or (lists and all(group.sequence for group in lists)):
            return value
        self.wrong(value, name, problems)
        return None

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        node = {"type": ["integer", "string"]}
        group = {"type": "array", "items": node, "minItems": 1}
        return {"anyOf": [{"type": "string"}, {"type": "array", "items": group, "minItems": 2}]}


class ResetRef(Kind):
    """A link, or the word `all`."""

    expected = "the two nodes of a link, or `all`"

    def read(self, value: Value, name: str, problems: Problems) -> list[Value] | str | None:
        """Return the nodes, or `all`."""
        if value.data == "all":
            return "all"
        if value.sequence is None:
            self.wrong(value, name, problems)
            return None
        read: list[Value] | None = _LINK.read(value, name, problems)
        return read

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        return {"anyOf": [_LINK.schema(), {"const": "all"}]}


class OnlyTrue(Boolean):
    """The word `true`; anything else would say that nothing is done."""

    expected = "true"

    def read(self, value: Value, name: str, problems: Problems) -> bool | None:
        """Return True, or None after noting a problem."""
        if value.data is True:
            return True
        self.wrong(value, name, problems, "leave the entry out if nothing shall be done")
        return None

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        return {"const": True}


def _time(least_us: int, example: str) -> Unit:
    return Unit(
        units.parse_duration,
        f"a duration such as `{example}`",
        pattern=DURATION_FORM,
        examples=(example,),
        least=units.Duration(least_us),
        most=units.Duration(7 * 86_400_000_000),
    )


_LINK = ListOf(NodeRef(), "link", least=2, most=2)
_AT = _time(0, "5 s")
_SPAN = _time(1_000, "200 ms")
_WHEN: Mapping[str, Field] = {
    "at": Field(_AT, "when, counted from the moment at which every role has started"),
    "every": Field(_time(1_000, "3 s"), "again and again, at `from` and then after each such time"),
    "from": Field(_AT, "the first time of a repetition; 0 s unless given"),
    "to": Field(_AT, "the end of a repetition: nothing begins then or later"),
}
_WAY: Mapping[str, Field] = {
    "forward": Field(OnlyTrue(), "only packets from the first node to the second"),
    "backward": Field(OnlyTrue(), "only packets from the second node to the first"),
}
_BY: Mapping[str, Field] = {
    "by": Field(Text(most=60), "why, in your words; part of the cause that events name")
}

_SET = Placed(
    "timeline entry `set`",
    {
        "set": Field(_LINK, "change what this link does; keys that are not stated stay", required=True),
        **_WHEN,
        **LIVE_FIELDS,
        **_WAY,
        **_BY,
    },
)
_RAMP = Placed(
    "timeline entry `ramp`",
    {
        "ramp": Field(_LINK, "change values of this link linearly from one to another", required=True),
        "from": Field(_AT, "when the first value is set", required=True),
        "to": Field(_AT, "when the last value is set", required=True),
        "steps": Field(Integer(1, MOST_STEPS), "equal steps between the two values", default=20),
        **{
            key: Field(ListOf(field.kind, key, least=2, most=2), f"first and last value of `{key}`")
            for key, field in LIVE_FIELDS.items()
            if key not in ("profile", "trace")
        },
        **_WAY,
        **_BY,
    },
)
_FLAP = Placed(
    "timeline entry `flap`",
    {
        "flap": Field(_LINK, "take this link down, and up again after `down_for`", required=True),
        "down_for": Field(_SPAN, "how long it is down each time", required=True),
        **_WHEN,
        **_WAY,
        **_BY,
    },
)
_RESET = Placed(
    "timeline entry `reset`",
    {
        "reset": Field(ResetRef(), "return this link, or `all`, to what is declared", required=True),
        **_WHEN,
        **_WAY,
        **_BY,
    },
)
_DOWN = Placed(
    "timeline entry `down`",
    {"down": Field(_LINK, "take this link down", required=True), **_WHEN, **_WAY, **_BY},
)
_UP = Placed(
    "timeline entry `up`",
    {"up": Field(_LINK, "take this link up again", required=True), **_WHEN, **_WAY, **_BY},
)
_PARTITION = Placed(
    "timeline entry `partition`",
    {
        "partition": Field(Groups(), "take down all links between these groups of nodes", required=True),
        **_WHEN,
        **_BY,
    },
)
_HEAL = Placed(
    "timeline entry `heal`", {"heal": Field(OnlyTrue(), "end the partition", required=True), **_WHEN, **_BY}
)
_NODE = Placed(
    "timeline entry `node`",
    {
        "node": Field(NodeRef(), "do something to this node", required=True),
        "do": Field(Choice(*NODE_FAULTS), "what", required=True),
        **_WHEN,
        **_BY,
    },
)

ACTIONS: Mapping[str, Placed] = {
    "set": _SET,
    "ramp": _RAMP,
    "flap": _FLAP,
    "reset": _RESET,
    "down": _DOWN,
    "up": _UP,
    "partition": _PARTITION,
    "heal": _HEAL,
    "node": _NODE,
}
"""The keys of an entry by the key that says what it does."""


class EntryKind(OneOfTables):
    """One entry of a timeline: a mapping with exactly one of the keys of `ACTIONS`, under `do!` when read."""

    def __init__(self) -> None:
        super().__init__(ACTIONS, "do!", "a mapping such as `{at: 5 s, set: [1, 2], delay: 20 ms}`")

    def refuse(self, value: Value, found: Sequence[str], problems: Problems) -> None:
        """Note that the entry says nothing that can be done, or several things."""
        keys = value.mapping or {}
        hint: str | None
        if found:
            message = f"the entry says {quoted(found)}, but does one thing"
            place, hint = value.key_place(found[1]), "write an entry for each"
        else:
            unknown = next((key for key in keys if key not in _SET.fields), "")
            message = "the entry does not say what is done"
            place, hint = value.place, nearest_hint(unknown, ACTIONS, otherwise="such as `set: [1, 2]`")
        problems.add(
            message,
            "timeline-action",
            place,
            found=", ".join(keys),
            expected=f"one of {quoted(ACTIONS)}",
            hint=hint,
        )
