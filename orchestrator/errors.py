"""The tree of all errors that a user can get, grouped by who can fix them.

    NmError
    ├── UsageError               the person at the keyboard: a wrong option, lab or selector       (2)
    │   ├── LabNotFound          no such lab is up                                                (2)
    │   └── UnitInvalid          a value such as `20 ms` that cannot be read                      (2)
    ├── FileInvalid              the person who wrote the file; carries every problem at once     (2)
    │   ├── TopologyInvalid
    │   │   └── LinkChangeInvalid    values for a running link, not a file
    │   ├── ImportInvalid        a file of another program that `nm import` cannot read
    │   ├── ScenarioInvalid
    │   └── SettingsInvalid
    ├── CheckFailed              the experiment ran and did not hold                              (1)
    ├── RunFailed                the experiment could not run to its end                          (1)
    ├── HostNotFit               the machine: no TUN, no engine, no permission, no room           (4)
    ├── StartFailed              a lab did not become ready; names the failed part                    (5)
    │   └── ControllerUnreachable
    ├── LabBusy                  another command is changing this lab                             (5)
    ├── StoreUnavailable         Postgres is gone or refuses                                      (5)
    ├── ProtocolError            a peer said something that we do not understand                  (5)
    ├── FidelityBroken           the lab could not do what the file says                          (6)
    └── InternalError            us; the only case that asks for a bug report                     (70)

The number is the exit code. Every error has a stable `id`, which scripts and documentation hold on to while
the sentences may improve. A message is one sentence that says what and where; what was found, what was
expected and a hint are attributes of their own, so that text and JSON can both be made from them. Errors
survive pickling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

__all__ = [
    "CheckFailed",
    "ControllerUnreachable",
    "FidelityBroken",
    "FileInvalid",
    "HostNotFit",
    "ImportInvalid",
    "InternalError",
    "LabBusy",
    "LabNotFound",
    "LinkChangeInvalid",
    "NmError",
    "Place",
    "Problem",
    "ProtocolError",
    "RunFailed",
    "ScenarioInvalid",
    "SettingsInvalid",
    "StartFailed",
    "StoreUnavailable",
    "TopologyInvalid",
    "UnitInvalid",
    "UsageError",
    "counted",
    "nearest",
    "nearest_hint",
    "quoted",
]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands in a file; line and column count from 1, 0 means the file as a whole.

    `file` is what the user typed; for a value given by an option it is the option itself, such as
    `--set defaults.node.mtu=abc`, without a line.
    """

    file: str
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}" if self.line else self.file

    def as_json(self) -> dict[str, Any]:
        """Return the place as `-o json` shows it."""
        return {"file": self.file, "line": self.line or None, "column": self.column or None}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong in a file; `FileInvalid` carries all of them."""

    message: str
    id: str
    place: Place | None = None
    found: str | None = None
    expected: str | None = None
    hint: str | None = None

    def render(self) -> str:
        """Return the problem as the command line shows it: place first, the hint on its own line."""
        first = f"{self.place}  {self.message}" if self.place else self.message
        return f"{first}\n    hint: {self.hint}" if self.hint else first

    def as_json(self) -> dict[str, Any]:
        """Return the problem as `-o json` shows it."""
        return {
            "id": self.id,
            "message": self.message,
            "place": self.place.as_json() if self.place else None,
            "found": self.found,
            "expected": self.expected,
            "hint": self.hint,
        }


class NmError(Exception):
    """The root of the tree; never raised itself.

    Args:
        message: One sentence: what failed and where. No advice.
        id: Stable identifier, `area.what`; the class has a general one.
        place: The spot in a file that has to change, if there is one.
        found: The offending input, as the user wrote it.
        expected: What would have been right.
        hint: What to do next, as a sentence without a full stop.
        exit_code: What `nm` exits with; the class knows the usual one.
        fields: Identifiers for searching the logs, such as `node` and `run`.

    Attributes:
        lines: The last lines of the log of the part that failed, for errors that have one.
    """

    id: str = "nm.error"
    exit_code: int = 1
    lines: tuple[str, ...] | None = None

    def __init__(
        self,
        message: str,
        *,
        id: str | None = None,
        place: Place | None = None,
        found: str | None = None,
        expected: str | None = None,
        hint: str | None = None,
        exit_code: int | None = None,
        fields: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.found = found
        self.expected = expected
        self.hint = hint
        self.fields = dict(fields or {})
        if id is not None:
            self.id = id
        if exit_code is not None:
            self.exit_code = exit_code

    def render(self) -> str:
        """Return the error as the command line shows it: place, sentence, log, hint, and the id last."""
        lines = [f"{self.place}  {self.message}" if self.place else self.message]
        lines += [f"    | {line}" for line in self.lines or ()]
        if self.hint:
            lines.append(f"    hint: {self.hint}")
        tail = "".join(f" {key}={value}" for key, value in self.fields.items())
        lines.append(f"    [{self.id}]" + (f" {tail}" if tail else ""))
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """Return the error as `-o json` shows it on stderr."""
        body: dict[str, Any] = {
            "id": self.id,
            "message": self.message,
            "place": self.place.as_json() if self.place else None,
            "found": self.found,
            "expected": self.expected,
            "hint": self.hint,
        }
        if self.fields:
            body["fields"] = {key: str(value) for key, value in self.fields.items()}
        if self.lines is not None:
            body["log"] = list(self.lines)
        return {"error": body}

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle by calling the class with `args`; ours take keywords, so the state travels apart.
        return (_rebuild, (type(self), self.args, self.__dict__.copy()))


class UsageError(NmError):
    """The command cannot be carried out as typed."""

    id = "usage.invalid"
    exit_code = 2


class LabNotFound(UsageError):
    """No lab of that name is up, or several are and none was named."""

    id = "lab.not-found"


class UnitInvalid(UsageError):
    """A value with a unit cannot be read; a caller that knows the place turns it into a `Problem`.

    `reason` is the second half of the sentence, for those who know what the value is called:
    "delay is `20 mz`, but `mz` is no unit of time".
    """

    id = "unit.invalid"

    def __init__(self, found: str, reason: str, *, expected: str, hint: str | None = None) -> None:
        super().__init__(f"found `{found}`, but {reason}", found=found, expected=expected, hint=hint)
        self.reason = reason


class FileInvalid(NmError):
    """A file is wrong; carries every problem that was found, in the order of the file.

    Args:
        problems: At least one.
        file: The file's name as the user typed it.
        outcome: What this means for the user, as the last line says it.
    """

    id = "file.invalid"
    exit_code = 2
    outcome: ClassVar[str] = "nothing was started"

    def __init__(self, problems: Sequence[Problem], *, file: str = "", id: str | None = None) -> None:
        if not problems:
            raise ValueError("a file is invalid for at least one reason")
        first = problems[0]
        name = file or (first.place.file if first.place else "the file")
        super().__init__(
            f"{counted(len(problems), 'problem')} in {name}"
            + (f": {first.message}" if len(problems) == 1 else ""),
            id=id,
            place=first.place,
            found=first.found,
            expected=first.expected,
            hint=first.hint,
        )
        self.file = name
        self.problems = tuple(problems)

    def render(self) -> str:
        """Return all problems, a blank line between them, and the count with the id at the end."""
        blocks = [problem.render() for problem in self.problems]
        blocks.append(f"{counted(len(self.problems), 'problem')}, {self.outcome}  [{self.id}]")
        return "\n\n".join(blocks)

    def as_json(self) -> dict[str, Any]:
        """Return the first problem's facts, and all problems under `problems`."""
        shown = super().as_json()
        if len(self.problems) == 1:
            shown["error"]["message"] = self.problems[0].message
        shown["error"]["problems"] = [problem.as_json() for problem in self.problems]
        return shown


class TopologyInvalid(FileInvalid):
    """A topology file does not describe a lab."""

    id = "topology.invalid"


class LinkChangeInvalid(TopologyInvalid):
    """Values for a running link do not describe a change; a kind of `TopologyInvalid`."""

    id = "link.invalid"
    outcome = "nothing was changed"


class ImportInvalid(FileInvalid):
    """A file of another program cannot be turned into a topology file."""

    id = "import.invalid"
    outcome = "nothing was written"


class ScenarioInvalid(FileInvalid):
    """A scenario folder does not describe an experiment."""

    id = "scenario.invalid"


class SettingsInvalid(FileInvalid):
    """A node's or controller's TOML file cannot be used."""

    id = "settings.invalid"


class CheckFailed(NmError):
    """A scenario's check did not hold."""

    id = "check.failed"
    exit_code = 1


class RunFailed(NmError):
    """A scenario could not run to its end: a role raised, hung or was lost."""

    id = "run.failed"
    exit_code = 1


class HostNotFit(NmError):
    """This machine lacks something that the chosen backend needs."""

    id = "host.not-fit"
    exit_code = 4


class StartFailed(NmError):
    """A lab, or a part of it, did not become ready in time."""

    id = "start.failed"
    exit_code = 5


class ControllerUnreachable(StartFailed):
    """Nothing answers where the controller should be, or it refuses us."""

    id = "controller.unreachable"


class LabBusy(NmError):
    """Another command is changing this lab at the moment."""

    id = "lab.busy"
    exit_code = 5


class StoreUnavailable(NmError):
    """Postgres cannot be reached, or refuses."""

    id = "store.unavailable"
    exit_code = 5


class ProtocolError(NmError):
    """A control message that cannot be understood; subclasses refine it."""

    id = "protocol.invalid"
    exit_code = 5


class FidelityBroken(NmError):
    """The lab could not do what its topology says, by its own fault."""

    id = "fidelity.broken"
    exit_code = 6


class InternalError(NmError):
    """Something that cannot happen did; the only error that asks for a report."""

    id = "internal.error"
    exit_code = 70

    def render(self) -> str:
        """Return the error with the request to report it."""
        tail = " ".join(f"{key}={value}" for key, value in self.fields.items())
        report = "This is a bug in nm. Please report it" + (f" with: {tail}" if tail else "")
        return f"{self.message}\n    {report}\n    [{self.id}]"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that `name` was most likely meant to be, or None if none is close."""
    import difflib  # costs more than the rest of this module, and only a failure needs it

    by_folded = {candidate.casefold(): candidate for candidate in known}
    close = difflib.get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=0.6)
    return by_folded[close[0]] if close else None


def nearest_hint(
    name: str, known: Iterable[str], *, what: str = "known names are", otherwise: str | None = None
) -> str | None:
    """Return a hint that offers the nearest known name, or else says `otherwise`, or lists the names."""
    names = sorted(known)
    close = nearest(name, names)
    if close is not None:
        return f"did you mean `{close}`?"
    return otherwise or (f"{what} {quoted(names)}" if names else None)


def quoted(names: Iterable[object], limit: int = 12) -> str:
    """Return names in back-ticks with commas, the tail cut off with a count when there are many."""
    shown = [f"`{name}`" for name in names]
    if len(shown) > limit:
        return ", ".join(shown[:limit]) + f" and {len(shown) - limit} more"
    return ", ".join(shown)


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, as in `1 node` and `2 nodes`; the nouns we count all take an s."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _rebuild(cls: type[NmError], args: tuple[Any, ...], state: dict[str, Any]) -> NmError:
    error = cls.__new__(cls)
    error.args = args
    error.__dict__.update(state)
    return error
