"""Parse the command line of `nm`, run the command and return its exit code.

Each of our errors carries its exit code; a usage error of the parser is 2; an interrupt is 130. With `-o
json` an error is printed to stderr as JSON.
"""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Sequence
from itertools import pairwise

import typer
from typer.main import get_command_name
from typer.models import CommandInfo

from orchestrator.cli import (
    bench,
    captures,
    changes,
    common,
    events,
    faults,
    files,
    flows,
    groups,
    host,
    imports,
    interrupts,
    lab_tests,
    labs,
    links,
    nodes,
    probes,
    results,
    routes,
    runs,
    services,
    sql,
    view,
)
from orchestrator.errors import InternalError, NmError

INTERRUPTED = 130

# Typer brings its own copy of click or uses the installed one, depending on its version; this is either's
# root.
_ParserError: type[Exception] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="nm",
    help="A network testbed in a command: YAML in, a running emulated network out.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Every command takes --help, -v (show what happens underneath) and -q (only data and errors).",
)
VERBOSE = ("-v", "--verbose")
QUIET = ("-q", "--quiet")
# Options that other programs call by these names (Mininet's bw, tc's limit, and so on), and ours.
_SYNONYMS = {
    "--bandwidth": "--rate",
    "--bw": "--rate",
    "--latency": "--delay",
    "--queue": "--limit",
    "--packet-loss": "--loss",
    "--nodes": "--n-nodes",
    "--name": "--lab",
}
for noun in (
    labs,
    nodes,
    services,
    runs,
    results,
    lab_tests,
    links,
    probes,
    faults,
    changes,
    events,
    flows,
    groups,
    routes,
    captures,
    files,
    imports,
    host,
    bench,
    sql,
    view,
):
    noun.register(app)


@app.callback()
def _group() -> None:
    """Make Typer keep a group of commands even where `_narrowed` leaves one of them."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run a command line and exit."""
    interrupts.handle_signals()
    sys.exit(run(list(sys.argv[1:] if argv is None else argv)))


def run(argv: list[str]) -> int:
    """Run a command line; return its exit code."""
    argv, verbose = _without(argv, VERBOSE)
    argv, common.quiet = _without(argv, QUIET)
    if argv in (["--version"], ["-V"]):
        argv = ["version"]
    try:
        from orchestrator import log

        log.setup("debug" if verbose else "error")
        code = _narrowed(argv)(argv, standalone_mode=False, prog_name="nm")
        return code if isinstance(code, int) else 0
    except NmError as error:
        _print_error(argv, error, verbose)
        return error.exit_code
    except typer.Exit as leaving:
        return leaving.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except _ParserError as error:
        _print_error_usage(argv, error)
        return 2
    except BrokenPipeError:
        # The reader of our output closed the pipe; reporting that on the same pipe would fail again.
        sys.stderr.close()
        return 0
    except Exception as error:
        if verbose:
            raise
        bug = InternalError(f"{type(error).__name__}: {error}", hint="`-v` shows where")
        _print_error(argv, bug, verbose)
        return bug.exit_code


def _narrowed(argv: Sequence[str]) -> typer.Typer:
    """Return the program with nothing but the command that is called.

    Typer makes the parser of every command before it looks at the words: 35 ms of the 150 that a command may
    take. The whole program is there for help and for words that are no command.
    """
    word = next((word for word in argv if not word.startswith("-")), None)
    commands = [each for each in app.registered_commands if _name(each) == word]
    groups = [each for each in app.registered_groups if each.name == word]
    if not argv or argv[0] != word or not (commands or groups):
        return app
    narrowed = copy.copy(app)
    narrowed.registered_commands, narrowed.registered_groups = commands, groups
    return narrowed


def _name(command: CommandInfo) -> str | None:
    """Return a command's word, as Typer makes it."""
    return command.name or (command.callback and get_command_name(command.callback.__name__))


def wants_json(argv: Sequence[str]) -> bool:
    """Whether the command line asks for JSON; asked before it is parsed, because parsing may fail."""
    words = list(argv[: argv.index("--")]) if "--" in argv else list(argv)
    pairs = set(pairwise(words))
    return bool(pairs & {("-o", "json"), ("--output", "json")}) or bool(
        {"-ojson", "--output=json"} & set(words)
    )


def _without(argv: list[str], switches: Sequence[str]) -> tuple[list[str], bool]:
    """Take a switch that every command has out, wherever it stands before the command of `exec`."""
    end = argv.index("--") if "--" in argv else len(argv)
    kept = [word for word in argv[:end] if word not in switches]
    return kept + argv[end:], len(kept) < end


def _print_error(argv: Sequence[str], error: NmError, verbose: bool) -> None:
    if wants_json(argv):
        print(json.dumps(error.as_json()), file=sys.stderr)
    else:
        print(error.render(), file=sys.stderr)
    if verbose:
        import traceback

        traceback.print_exception(error)


def _print_error_usage(argv: Sequence[str], error: Exception) -> None:
    from orchestrator.errors import UsageError

    message = str(getattr(error, "message", "") or error)
    context = getattr(error, "ctx", None)
    hint = f"`{context.command_path} --help` says more" if context is not None else "`nm --help` says more"
    option, parameter = getattr(error, "option_name", None), getattr(error, "param", None)
    if option is not None and context is not None:
        known = {name for each in context.command.params for name in each.opts + each.secondary_opts}
        hint = _option_hint(option, known, in_exec="exec" in argv and "--" not in argv) or hint
    elif parameter is not None and not getattr(error, "message", ""):
        word = parameter.metavar or parameter.human_readable_name
        is_option = parameter.param_type_name == "option"
        message = f"`{parameter.opts[-1]} {word}` is missing" if is_option else f"{word} is missing"
    elif isinstance(error, typer.BadParameter) and parameter is not None:
        # The parser's own message names the value alone.
        message = f"{parameter.opts[0] if parameter.opts else parameter.human_readable_name}: {message}"
    elif message.startswith("No such command"):
        hint = _command_hint(message, context) or hint
        message = message.partition(" Did you mean")[0]
    elif message.startswith("Got unexpected extra argument") and context is not None:
        hint = _lab_hint(message, context) or hint
    _print_error(argv, UsageError(message, hint=hint), verbose=False)


def _option_hint(option: str, known: set[str], *, in_exec: bool) -> str | None:
    """Return the option that was probably meant; inside `exec` it was probably meant for the program."""
    from orchestrator.errors import nearest

    close = _SYNONYMS.get(option)
    if close not in known:
        close = nearest(option.replace("_", "-"), known)
    if close is not None:
        return f"did you mean `{close}`?"
    return "put `--` before the command that shall run in the node" if in_exec else None


def _lab_hint(message: str, context: typer.Context) -> str | None:
    """Return how a lab is named, where the word too many is the name of one."""
    word = message.partition("(")[2].split(" ")[0].rstrip(")")
    takes_lab = any("--lab" in each.opts for each in context.command.params)
    if takes_lab and any(lab.name == word for lab in common.home().labs()):
        return f"`{context.command_path} -n {word}`"
    return None


def _command_hint(message: str, context: typer.Context | None) -> str | None:
    """Return the command that was probably meant by the name in the parser's message."""
    from orchestrator.errors import nearest

    if context is None:
        return None
    wanted = message.split("'")[1] if "'" in message else ""
    commands = [name for name, each in getattr(context.command, "commands", {}).items() if not each.hidden]
    close = nearest(wanted, commands)
    if close is not None:
        return f"did you mean `{context.command_path} {close}`?"
    if len(commands) == 1:
        return f"did you mean `{context.command_path} {commands[0]} {wanted}`?"
    return None
