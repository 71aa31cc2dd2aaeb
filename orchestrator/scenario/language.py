"""The keys of `scenario.yaml`."""

from __future__ import annotations

from orchestrator import units
from orchestrator.fields import Anything, Boolean, Choice, Field, ListOf, MapOf, Table, Text, Unit
from orchestrator.scenario.aggregates import AGGREGATES
from orchestrator.scenario.captures import CAPTURE
from orchestrator.scenario.params import TYPES
from orchestrator.scenario.plots import PLOT
from orchestrator.scenario.timeline_keys import EntryKind
from orchestrator.scenario.traffic import TRAFFIC
from orchestrator.topology.kinds import Placed, SelectorText
from orchestrator.topology.lab_test_keys import LabTestKind

__all__ = ["ROOT"]

_NAME = r"[A-Za-z](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_PARAM = r"[A-Za-z][A-Za-z0-9_]{0,62}"
_VALUE = Anything({"type": ["string", "number", "boolean"]})

_MODULE = Text(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a Python module")
_PROGRAM = Text(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", "the name of a program")

_PARAM_TABLE = Placed(
    "parameter",
    {
        "type": Field(Choice(*TYPES), "what it is", required=True),
        "default": Field(_VALUE, "its value without `--param`; without a default it has to be given"),
        "help": Field(Text(), "one line about it"),
        "min": Field(_VALUE, "the smallest value"),
        "max": Field(_VALUE, "the largest value"),
        "choices": Field(ListOf(_VALUE, "choice", least=1), "the only values"),
    },
)
_ROLE = Placed(
    "role",
    {
        "nodes": Field(
            SelectorText(), "who plays it: ids, ranges, names, globs, label=value, all, rest", required=True
        ),
        "help": Field(Text(), "one line about it"),
        "isolation": Field(Choice("thread", "process"), "where it runs; the scenario's unless given"),
    },
)
_CHECK = Placed(
    "check",
    {
        "name": Field(Text(), "what it is called in the result"),
        "rows": Field(Text(), "the role whose rows are looked at; all rows without it"),
        "where": Field(
            Text(),
            "what has to hold for a row, such as `state == 'complete'`; beside an aggregate, which rows are "
            "meant",
        ),
        "count": Field(
            Text(None, "`all`, a number or a comparison", numbers=True),
            "for how many rows",
            default="all",
        ),
        "by": Field(
            Text(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a field"),
            "a field: the check has to hold for the rows of each of its values",
        ),
        **{
            name: Field(Text(), f"{meaning} of this field or computation has to be as `is` says")
            for name, (_, meaning) in AGGREGATES.items()
        },
        "is": Field(
            Text(None, "a comparison such as `< 2` or `100 ± 5 %`", numbers=True),
            "what an aggregate has to be: `< 2`, `>= params.least`, `100 ± 5 %`; `==` without a sign",
        ),
        "tolerance": Field(
            Text(None, "a number or a share such as `5 %`", numbers=True),
            "how far an aggregate may be from `is`; the same as `±`",
        ),
    },
    later={
        "within": "checks with a time",
        "retry": "checks that are tried again",
        "every": "checks during the run",
    },
    hints={
        "median": "write `p50: FIELD`",
        "avg": "did you mean `mean`?",
        "average": "did you mean `mean`?",
        "group": "did you mean `by`?",
        "group_by": "did you mean `by`?",
        "expect": "did you mean `is`?",
    },
)

ROOT = Placed(
    "the scenario",
    {
        "name": Field(
            Text(_NAME, "a name of letters, digits, `-` and `_`", hint="results folders are named after it"),
            "the scenario's name; the folder's unless given",
        ),
        "summary": Field(Text(), "one line about it"),
        "topology": Field(
            Text(), "the topology it brings up if no lab is; beside this file, or a shipped one"
        ),
        "needs": Field(
            Table(
                "needs",
                {
                    "python": Field(ListOf(_MODULE, "module"), "modules that the nodes' Python has to find"),
                    "programs": Field(ListOf(_PROGRAM, "program"), "programs that the nodes have to have"),
                },
            ),
            "what the nodes have to have besides; looked for before a run is started",
        ),
        "params": Field(
            MapOf(_PARAM, "a parameter's name", _PARAM_TABLE, "param *"), "what `--param` can set"
        ),
        "roles": Field(
            MapOf(_NAME, "a role's name", _ROLE, "role *"), "who does what; functions of roles.py"
        ),
        "isolation": Field(
            Choice("thread", "process"),
            "where roles run: each in a thread of its node's process, or in a process of its own",
            default="thread",
        ),
        "timeline": Field(ListOf(EntryKind(), "entry"), "what is done to links and nodes during the run"),
        "capture": Field(ListOf(CAPTURE, "capture"), "what is captured during the run, as pcapng files"),
        "traffic": Field(ListOf(TRAFFIC, "traffic"), "what nodes send during the run, beside their roles"),
        "faults": Field(
            Boolean(), "whether roles may change links: `ctx.link`, `ctx.partition`", default=False
        ),
        "checks": Field(ListOf(_CHECK, "check"), "what has to hold in the end"),
        "tests": Field(
            ListOf(LabTestKind(), "test"),
            "what has to hold in the lab when the roles have ended; counts as checks do",
        ),
        "plots": Field(ListOf(PLOT, "plot"), "what is drawn besides the usual plots"),
        "timeout": Field(
            Unit(
                units.parse_duration,
                "a duration such as `60 s`",
                pattern=r"^\s*[0-9][0-9_.]*\s*(ms|s|min|h)\s*$",
                least=units.Duration(1_000),
                most=units.Duration(7 * 86_400_000_000),
            ),
            "when a run is ended",
            default="60 s",
        ),
    },
    private=True,
    hints=dict.fromkeys(("steps", "events", "at", "every"), "write entries of `timeline`"),
)
