"""Find a scenario, read `scenario.yaml` strictly, and check `roles.py` without executing it."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator import resources
from orchestrator.errors import Place, ScenarioInvalid, UsageError, nearest_hint
from orchestrator.scenario.captures import read_captures
from orchestrator.scenario.check_keys import read_check
from orchestrator.scenario.language import ROOT
from orchestrator.scenario.model import RoleSpec, Scenario
from orchestrator.scenario.params import Param, ParamInvalid
from orchestrator.scenario.plots import read_plots
from orchestrator.scenario.timeline_entries import read_entries
from orchestrator.scenario.traffic import read_traffic
from orchestrator.source import Problems, Value, parse_yaml, read_text
from orchestrator.traffic import ROLE

__all__ = ["find", "load", "shipped"]

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?")
_FILE = "scenario.yaml"
_ENTRY = "roles.py"


def shipped() -> list[str]:
    """Return the names of the scenarios that come with the program."""
    folder = resources.path("scenarios")
    return sorted(path.parent.name for path in folder.glob(f"*/{_FILE}"))


def find(name_or_dir: str | os.PathLike[str]) -> Path:
    """Return the folder of a scenario.

    A bare name means a shipped scenario, or else a folder of that name; anything with a slash is a folder.

    Raises:
        UsageError: There is neither.
    """
    shown = os.fspath(name_or_dir)
    path = Path(shown)
    if path.name == _FILE and path.is_file():
        return path.parent
    if _NAME.fullmatch(shown) and (resources.path("scenarios") / shown / _FILE).is_file():
        return resources.path("scenarios") / shown
    if (path / _FILE).is_file():
        return path
    if path.is_dir():
        raise UsageError(
            f"the folder {shown} has no {_FILE}",
            id="scenario.missing",
            found=shown,
            expected=f"a folder with {_FILE} and {_ENTRY}",
            hint="`nm new scenario NAME` writes a starting point",
        )
    names = shipped()
    raise UsageError(
        f"there is no scenario `{shown}`",
        id="scenario.missing",
        found=shown,
        expected="the name of a shipped scenario, or a folder",
        hint=nearest_hint(path.name, names, what="shipped are"),
    )


def load(name_or_dir: str | os.PathLike[str], *, copied: bool = False) -> Scenario:
    """Read a scenario.

    Args:
        name_or_dir: The name of a shipped scenario, or a folder.
        copied: The folder is a copy in a results folder: the topology and the default files of parameters
            may have been outside of the original, and are left out where they are missing.

    Raises:
        UsageError: There is no such scenario.
        ScenarioInvalid: Carries every problem of its files.
    """
    folder = find(name_or_dir)
    file = str(folder / _FILE)
    problems = Problems("scenario")
    text = read_text(folder / _FILE, file, problems)
    value = parse_yaml(text, file, problems) if text is not None else None
    read = ROOT.read(value, "the scenario", problems) if value is not None else None
    scenario = _scenario(read, folder, problems, copied) if read is not None else None
    problems.raise_as(ScenarioInvalid, file)
    if scenario is None:  # a step that gives up has to say why
        raise AssertionError("no scenario and no problem")
    return scenario


def _scenario(read: Mapping[str, Any], folder: Path, problems: Problems, copied: bool) -> Scenario:
    value: Value = read["@"]
    roles = _roles(read, value, problems)
    outside = Problems("scenario") if copied else problems  # what is found there is not said
    params = {
        name: _param(name, spec, folder, outside if spec.get("type") == "file" else problems)
        for name, spec in read.get("params", {}).items()
    }
    rows_of = {**roles, **({ROLE: None} if "traffic" in read else {})}
    checks = [read_check(check, rows_of, params, problems) for check in read.get("checks", [])]
    if roles or "traffic" not in read or (folder / _ENTRY).exists():
        _check_code(folder / _ENTRY, roles, problems)
    return Scenario(
        name=read.get("name", folder.resolve().name),
        summary=read.get("summary", ""),
        folder=folder,
        topology=_topology(read.get("topology"), value, folder, outside),
        params={name: param for name, param in params.items() if param is not None},
        roles=roles,
        checks=tuple(check for check in checks if check is not None),
        timeout=read["timeout"].seconds if "timeout" in read else 60.0,
        modules=tuple(read.get("needs", {}).get("python", ())),
        programs=tuple(read.get("needs", {}).get("programs", ())),
        faults=read.get("faults", False),
        timeline=read_entries(read.get("timeline", ()), problems),
        tests=tuple(read.get("tests", ())),
        plots=read_plots(read.get("plots", ()), rows_of, problems),
        captures=read_captures(read.get("capture", ()), problems),
        traffic=read_traffic(read.get("traffic", ()), folder, problems),
    )


def _roles(read: Mapping[str, Any], value: Value, problems: Problems) -> dict[str, RoleSpec]:
    roles: dict[str, RoleSpec] = {}
    section = value.get("roles")
    for name, role in read.get("roles", {}).items():
        selector: Value | None = role.get("nodes")
        if section is None or selector is None:
            continue
        items = selector.sequence if selector.sequence is not None else [selector]
        if name == ROLE:
            problems.add(
                f"no role can be called `{ROLE}`: rows about generated traffic are",
                "role-name",
                section.key_place(name),
                found=name,
                expected="another name",
            )
            continue
        words = tuple(word.strip() for item in items for word in item.text.split(","))
        isolation = role.get("isolation") or read.get("isolation") or "thread"
        roles[name] = RoleSpec(name, words, selector.place, isolation == "process")
    if section is not None and section.mapping == {}:
        _no_roles(section.place, problems)
    elif value.mapping is not None and not {"roles", "traffic"} & value.mapping.keys():
        _no_roles(value.place, problems)
    return roles


def _no_roles(place: Place, problems: Problems) -> None:
    problems.add(
        "the scenario has no roles, so nobody would do anything",
        "no-roles",
        place,
        expected="at least one role, or `traffic`",
        hint="for example `roles: {worker: {nodes: all}}`, with a function `worker(ctx)` in roles.py",
    )


def _param(name: str, spec: Mapping[str, Any], folder: Path, problems: Problems) -> Param | None:
    value: Value = spec["@"]
    kind = spec.get("type")
    if kind is None:
        return None
    bare = Param(name=name, type=kind, help=spec.get("help", ""))
    bounds = {key: _typed(bare, value.get(key), key, None, problems) for key in ("min", "max")}
    choices_value = value.get("choices")
    listed = choices_value.sequence if choices_value is not None else None
    choices = [_typed(bare, item, "a choice", None, problems) for item in listed or []]
    param = Param(
        name=name,
        type=kind,
        help=spec.get("help", ""),
        choices=tuple(choice for choice in choices if choice is not None),
        **bounds,
    )
    default = _typed(param, value.get("default"), "default", folder, problems)
    return Param(**{key: getattr(param, key) for key in param.__slots__ if key != "default"}, default=default)


def _typed(param: Param, value: Value | None, what: str, folder: Path | None, problems: Problems) -> Any:
    """Return a value of the parameter's type from the file, or None."""
    if value is None:
        return None
    data = value.data
    # Text with a unit is read from what was written; numbers and truth values must not arrive as text.
    raw = (
        value.text if param.type in ("size", "duration", "rate") and isinstance(data, (int, float)) else data
    )
    if param.type in ("int", "float", "bool") and isinstance(data, str):
        raw = None
    try:
        return param.read(raw, folder)
    except ParamInvalid as error:
        problems.add(
            f"{what} of `{param.name}` is {value.describe()}, but {error.reason}",
            "param",
            value.place,
            found=value.text,
            expected=error.expected,
            hint=error.hint,
        )
        return None


def _topology(text: str | None, value: Value, folder: Path, problems: Problems) -> Path | None:
    """Return the topology file: beside the scenario, or a shipped one."""
    if text is None:
        return None
    for path in (folder / text, resources.path("topologies") / text):
        if path.is_file():
            return path
    names = [path.name for path in resources.path("topologies").glob("*.yaml")]
    problems.add(
        f"topology is `{text}`, but there is no such file beside the scenario or among the shipped ones",
        "topology",
        value.place_of("topology"),
        found=text,
        hint=nearest_hint(text, names, what="shipped are"),
    )
    return None


def _check_code(path: Path, roles: Mapping[str, RoleSpec], problems: Problems) -> None:
    """Note roles that have no function; the code is only looked at, as running it is the nodes' business."""
    text = read_text(path, str(path), problems)
    if text is None:
        return
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError) as error:
        place = Place(str(path), getattr(error, "lineno", 0) or 0, getattr(error, "offset", 0) or 0)
        problems.add(f"the code does not parse: {getattr(error, 'msg', error)}", "code", place)
        return
    names = _bound(tree)
    if "*" in names:
        return
    for role in roles.values():
        wanted = role.name.replace("-", "_")
        if wanted not in names:
            problems.add(
                f"role `{role.name}` has no function: {path.name} does not define `{wanted}`",
                "role-function",
                role.place,
                found=role.name,
                expected=f"def {wanted}(ctx): …",
                hint=nearest_hint(wanted, names, otherwise=f"add `def {wanted}(ctx): ...` to {path.name}"),
            )


def _bound(tree: ast.Module) -> set[str]:
    """Return the names that a module binds at its top level, as far as looking can tell."""
    names: set[str] = set()
    for statement in ast.walk(tree):
        match statement:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                names.add(name)
            case ast.Import(names=imported) | ast.ImportFrom(names=imported):
                names.update((item.asname or item.name) for item in imported)
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
    return names
