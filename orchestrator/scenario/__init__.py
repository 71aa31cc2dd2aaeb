"""Experiments: a folder with `scenario.yaml` and `roles.py`, read strictly and resolved against a topology.

`load` finds and checks a scenario; `Scenario.resolve` says who plays which role with which parameters;
`evaluate` turns what the roles reported into a verdict. All of it is pure: sending roles to nodes is the
business of `lab`.
"""

from __future__ import annotations

from orchestrator.scenario.captures import CapturePlan
from orchestrator.scenario.checks import Check, CheckResult, evaluate
from orchestrator.scenario.expression import Expression, ExpressionInvalid
from orchestrator.scenario.loader import find, load, shipped
from orchestrator.scenario.model import RoleSpec, RunPlan, Scenario
from orchestrator.scenario.params import Param
from orchestrator.scenario.sweeps import (
    Axis,
    Combination,
    SweepRun,
    combinations,
    ordered_runs,
    read_axes,
    repetition_seed,
)
from orchestrator.scenario.timeline import timeline_traces

__all__ = [
    "Axis",
    "CapturePlan",
    "Check",
    "CheckResult",
    "Combination",
    "Expression",
    "ExpressionInvalid",
    "Param",
    "RoleSpec",
    "RunPlan",
    "Scenario",
    "SweepRun",
    "combinations",
    "evaluate",
    "find",
    "load",
    "ordered_runs",
    "read_axes",
    "repetition_seed",
    "shipped",
    "timeline_traces",
]
