"""Generate the page of commands from the command line's declarations."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any

import typer

from scripts.reference.text import code, heading, table

INTRODUCTION = """# Commands

`nm` and `nextmini` are the same program. Data goes to stdout and talk to stderr; with `-o json` stdout
holds JSON and nothing else, and an error is JSON on stderr. `-v` before or after any command shows what
happens underneath.

| Exit code | Meaning |
| --- | --- |
| 0 | it worked |
| 1 | a check did not hold, or the experiment could not run to its end |
| 2 | wrong usage, or an invalid file |
| 3 | there were warnings, and `--strict` was given |
| 4 | this machine is not fit for it |
| 5 | the lab did not start, or did not answer in time |
| 6 | the lab could not do what its file says |
| 130 | interrupted |

`nm exec` passes on the exit code of what it ran: 127 when there is no such program in the node, 126 when the
file is no program, 124 when `--timeout` ended it, 128 + n when signal n did. 255 means that the command could
not be run at all.
"""


def page() -> str:
    """Return the page."""
    parts = [INTRODUCTION]
    listed = list(commands())
    parts.append(
        table(["Command", ""], ((f"[`nm {name}`](#{_anchor(name)})", _summary(c)) for name, c in listed))
    )
    parts.extend(_section(name, command) for name, command in listed)
    return "\n".join(parts)


def commands() -> Iterator[tuple[str, Any]]:
    """Yield every command that is not hidden, with its full name, in the order of the help."""
    from orchestrator.cli.main import app

    yield from _leaves(typer.main.get_command(app), "")


def _leaves(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from _leaves(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", command


def _anchor(name: str) -> str:
    return f"nm-{name.replace(' ', '-')}"


def _summary(command: Any) -> str:
    return " ".join(inspect.cleandoc(command.help or "").split("\n\n")[0].split())


def _section(name: str, command: Any) -> str:
    hints = typing.get_type_hints(command.callback, include_extras=False) if command.callback else {}
    shown = [p for p in command.params if not getattr(p, "hidden", False) and "--help" not in p.opts]
    arguments = [p for p in shown if not p.opts[0].startswith("-")]
    options = [p for p in shown if p.opts[0].startswith("-")]
    usage = " ".join(["nm", name, *(["[OPTIONS]"] if options else []), *(_argument(p) for p in arguments)])
    parts = [heading(2, f"nm {name}"), inspect.cleandoc(command.help or ""), "", f"```text\n{usage}\n```", ""]
    rows = [(code(_argument(p)), p.help or "") for p in arguments]
    rows += [(code(_option(p, hints.get(p.name))), _help(p)) for p in options]
    if rows:
        parts.append(table(["Argument or option", ""], rows))
    return "\n".join(parts)


def _argument(parameter: Any) -> str:
    name = (parameter.metavar or parameter.name).upper().strip("_").strip("[].")
    name += "…" if parameter.nargs == -1 else ""
    return str(name) if parameter.required else f"[{name}]"


def _option(parameter: Any, hint: Any) -> str:
    words = "/".join([", ".join(parameter.opts), *parameter.secondary_opts])
    if getattr(parameter, "is_flag", False):
        return words
    choices = [t for t in (hint, *typing.get_args(hint)) if isinstance(t, type) and issubclass(t, Enum)]
    if choices:
        return f"{words} {'|'.join(str(member.value) for member in choices[0])}"
    return f"{words} {(parameter.metavar or parameter.name.strip('_')).upper()}"


def _help(parameter: Any) -> str:
    text = parameter.help or ""
    default = parameter.default.value if isinstance(parameter.default, Enum) else parameter.default
    if default not in (None, False, "", ()) and not callable(default):
        text += f" Default: `{default:g}`." if isinstance(default, float) else f" Default: `{default}`."
    if parameter.multiple:
        text += " May be repeated."
    return text.strip()
