"""The keys of `services:`, with the names and forms of the Compose specification."""

from __future__ import annotations

import re
import shlex
from typing import Any

from orchestrator import units
from orchestrator.errors import quoted
from orchestrator.fields import Boolean, Choice, Field, Integer, Kind, Number, Table, Text, Unit
from orchestrator.fields.kinds import printable
from orchestrator.source import Problems, Value
from orchestrator.topology.kinds import Placed, SelectorText
from orchestrator.topology.link_keys import DURATION_FORM
from orchestrator.topology.service_model import COMPLETED, HEALTHY, STARTED

__all__ = ["SERVICE", "SERVICE_NAME", "Items", "Pairs", "Words"]

SERVICE_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_RESTART = r"no|always|unless-stopped|on-failure(?::[1-9][0-9]{0,3})?"
_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)
_FACTORS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def _as_text(value: Value) -> str | None:
    """A scalar as the text it was written as; None for what is no scalar, or cannot be an argument."""
    data = value.data
    if data is None or isinstance(data, (dict, list)):
        return None
    text = data if isinstance(data, str) else value.text
    return None if "\0" in text else text


class Words(Kind):
    """A command: a list of words, or text that is split into words as a shell would, without its powers."""

    expected = "a command, as text or as a list of words"

    def read(self, value: Value, name: str, problems: Problems) -> tuple[str, ...] | None:
        """Return the words."""
        if value.sequence is not None:
            words = [_as_text(item) for item in value.sequence]
            if all(word is not None for word in words):
                return tuple(word for word in words if word is not None)
            self.wrong(value, name, problems, "every word is text; quotes keep it as it is")
            return None
        text = _as_text(value)
        if text is None:
            self.wrong(value, name, problems)
            return None
        try:
            return tuple(shlex.split(text))
        except ValueError as error:
            problems.add(
                f"{name} cannot be split into words: {error}",
                "form",
                value.place,
                found=printable(text),
                expected=self.expected,
                hint="or write the words as a list",
            )
            return None

    def schema(self) -> dict[str, Any]:
        """Return both forms as JSON Schema."""
        items = {"type": "array", "items": {"type": ["string", "number", "boolean"]}}
        return {"anyOf": [{"type": "string"}, items]}


class Items(Kind):
    """A list of texts, or one text alone; `pattern` is what each has to look like."""

    def __init__(self, expected: str, pattern: str = r".+") -> None:
        self._item = expected
        self._pattern = pattern
        self.expected = f"{expected}, or a list of them"

    def read(self, value: Value, name: str, problems: Problems) -> tuple[str, ...] | None:
        """Return the texts."""
        read = []
        for item in [value] if value.sequence is None else value.sequence:
            text = _as_text(item)
            if text is None or not re.fullmatch(self._pattern, text) or not text.isprintable():
                problems.add(
                    f"{name} is {item.describe()}, but {self._item} is expected",
                    "form",
                    item.place,
                    found=printable(item.text or item.describe()),
                    expected=self._item,
                )
                return None
            read.append(text)
        return tuple(read)

    def schema(self) -> dict[str, Any]:
        """Return both forms as JSON Schema."""
        one = {"type": "string", "pattern": f"^(?:{self._pattern})$"}
        return {"anyOf": [one, {"type": "array", "items": one}]}


class Pairs(Kind):
    """Variables: a mapping, or a list of `KEY=value`; without a value it is taken from our environment."""

    expected = "variables, as a mapping or as a list of `KEY=value`"

    def read(self, value: Value, name: str, problems: Problems) -> dict[str, str | None] | None:
        """Return the values by name, None for those of our environment."""
        read: dict[str, str | None] = {}
        if value.mapping is not None:
            stated = [(key, below, value.key_place(key)) for key, below in value.mapping.items()]
        elif value.sequence is not None:
            stated = []
            for item in value.sequence:
                key, equals, rest = (_as_text(item) or "").partition("=")
                stated.append((key, Value(rest if equals else None, item.place, rest), item.place))
        else:
            self.wrong(value, name, problems)
            return None
        for key, below, place in stated:
            text = _as_text(below)
            if _VARIABLE.fullmatch(key) is None or (text is None and below.data is not None):
                problems.add(
                    f"`{printable(key)}` in {name} is no variable with a text",
                    "form",
                    place,
                    found=printable(key),
                    expected=self.expected,
                )
                continue
            read[key] = text
        return read

    def schema(self) -> dict[str, Any]:
        """Return both forms as JSON Schema."""
        scalar = {"type": ["string", "number", "boolean", "null"]}
        return {
            "anyOf": [
                {"type": "object", "additionalProperties": scalar},
                {"type": "array", "items": {"type": "string"}},
            ]
        }


class Memory(Kind):
    """An amount of memory in Compose's form; its units are powers of 1,024."""

    expected = "an amount of memory such as `512m` or `2g`"

    def read(self, value: Value, name: str, problems: Problems) -> int | None:
        """Return the bytes."""
        found = _MEMORY.fullmatch(_as_text(value) or "")
        size = int(float(found[1]) * _FACTORS[found[2].lower()]) if found else 0
        if size >= 6 * 2**20:  # the least that engines take
            return size
        self.wrong(value, name, problems, "at least `6m`" if found else None)
        return None

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        return {"type": ["string", "integer"], "pattern": r"^[0-9]+(\.[0-9]+)?\s*[kKmMgGtT]?([iI]?[bB])?$"}


class OneOf(Kind):
    """Text or a list in a short form, or a table."""

    def __init__(self, short: Kind, table: Table) -> None:
        self._short, self.table = short, table
        self.expected = f"{short.expected}, or a mapping with {quoted(table.fields)}"

    def read(self, value: Value, name: str, problems: Problems) -> Any | None:
        """Return what the short form gives, or the table as read."""
        if value.mapping is not None:
            return self.table.read(value, name, problems)
        return self._short.read(value, name, problems)

    def schema(self) -> dict[str, Any]:
        """Return both forms as JSON Schema."""
        return {"anyOf": [self._short.schema(), self.table.schema()]}


class Listed(Kind):
    """A list of values that keep their places."""

    def __init__(self, item: Kind) -> None:
        self._item = item
        self.expected = f"a list of {item.expected}"

    def read(self, value: Value, name: str, problems: Problems) -> list[tuple[Any, Value]] | None:
        """Return each item as read, with the value it was read from."""
        if value.sequence is None:
            self.wrong(value, name, problems)
            return None
        read = [(self._item.read(item, name, problems), item) for item in value.sequence]
        return [(item, at) for item, at in read if item is not None]

    def schema(self) -> dict[str, Any]:
        """Return the list as JSON Schema."""
        return {"type": "array", "items": self._item.schema()}


class Dependencies(Kind):
    """`depends_on`: a list of services, or a mapping with a condition for each."""

    expected = "services, as a list or as a mapping with a `condition` each"

    _CONDITION = Table(
        "dependency",
        {"condition": Field(Choice(STARTED, HEALTHY, COMPLETED), "what is waited for", required=True)},
    )

    def read(self, value: Value, name: str, problems: Problems) -> dict[str, tuple[str, Value]] | None:
        """Return the condition by service, empty for the usual one, with the value that names it."""
        if value.sequence is not None:
            return {_as_text(item) or "": ("", item) for item in value.sequence}
        if value.mapping is None:
            self.wrong(value, name, problems)
            return None
        read = {}
        for key, below in value.mapping.items():
            given = self._CONDITION.read(below, f"{name} {key}", problems)
            if given and "condition" in given:
                read[key] = (given["condition"], Value(key, value.key_place(key), key))
        return read

    def schema(self) -> dict[str, Any]:
        """Return both forms as JSON Schema."""
        names = {"type": "array", "items": {"type": "string"}}
        return {"anyOf": [names, {"type": "object", "additionalProperties": self._CONDITION.schema()}]}


class Address(Kind):
    """Where HTTP is asked: a port, `PORT/PATH`, or a whole URL."""

    expected = "a URL such as `http://127.0.0.1:8000/health`, or `8000/health`"
    _FORM = r"(?:http://[^\s/]+(?:/\S*)?|[1-9][0-9]{0,4}(?:/\S*)?)"

    def read(self, value: Value, name: str, problems: Problems) -> str | None:
        """Return the URL."""
        text = _as_text(value) or ""
        if not re.fullmatch(self._FORM, text):
            self.wrong(value, name, problems)
            return None
        if text.startswith("http://"):
            return text
        port, _, path = text.partition("/")
        return f"http://127.0.0.1:{port}/{path}"

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        return {"type": ["string", "integer"], "pattern": f"^{self._FORM}$"}


def _time(least: str, most: str, example: str) -> Unit:
    return Unit(
        units.parse_duration,
        f"a duration such as `{example}`",
        pattern=DURATION_FORM,
        examples=(example,),
        least=units.parse_duration(least),
        most=units.parse_duration(most),
    )


READY = Placed(
    "ready",
    {
        "tcp": Field(Integer(1, 65_535, "a port"), "a port that accepts connections"),
        "http": Field(Address(), "a URL that answers with a status from 200 to 399"),
        "command": Field(Words(), "a command that ends with exit code 0, run where the service runs"),
        "log": Field(Text(), "a regular expression that a line of its output matches"),
        "timeout": Field(_time("100 ms", "24 h", "60 s"), "how long it may take", default="60 s"),
        "interval": Field(_time("10 ms", "1 h", "200 ms"), "the pause between attempts", default="200 ms"),
    },
    hints={"test": "write `command: …`", "retries": "`timeout` and `interval` say how often it is tried"},
)

_BUILD = Placed(
    "build",
    {
        "context": Field(Text(), "the folder, relative to this file", required=True),
        "dockerfile": Field(Text(), "the Dockerfile, relative to the context", default="Dockerfile"),
        "target": Field(Text(), "the stage to build"),
        "args": Field(Pairs(), "build arguments"),
    },
)
_VOLUME = Table(
    "volume",
    {
        "type": Field(Choice("bind", "volume"), "`bind` for a path of this machine", default="bind"),
        "source": Field(Text(), "a path, relative to this file, or a volume's name"),
        "target": Field(Text(r"/.*", "an absolute path"), "where it is in the container", required=True),
        "read_only": Field(Boolean(), "whether it cannot be written"),
    },
)

SERVICE = Placed(
    "service",
    {
        "nodes": Field(
            SelectorText(), "where it runs: ids, ranges, names, globs, label=value", required=True
        ),
        "image": Field(Text(r"\S+", "an image such as `redis:7`"), "docker: the image, unmodified"),
        "build": Field(OneOf(Text(), _BUILD), "docker: the folder that the image is built from"),
        "command": Field(Words(), "the program, or the arguments of the image's entrypoint"),
        "entrypoint": Field(Words(), "instead of the image's; stands before `command`"),
        "environment": Field(Pairs(), "variables of its environment"),
        "env_file": Field(Items("a file"), "files with variables, one `KEY=value` a line"),
        "volumes": Field(
            Listed(OneOf(Text(r"\S+", "a volume such as `./data:/data`"), _VOLUME)),
            "docker: files, folders and volumes of its container",
        ),
        "user": Field(Text(r"[A-Za-z0-9_.:-]+", "a user", numbers=True), "whose rights it has"),
        "working_dir": Field(Text(r"/.*", "an absolute path"), "the folder it starts in"),
        "tmpfs": Field(Items("a path such as `/tmp:size=64m`", r"/.*"), "docker: folders in memory"),
        "cap_add": Field(Items("a capability", r"[A-Z_]+"), "docker: capabilities besides the usual"),
        "devices": Field(Items("a device such as `/dev/fuse`", r"/.*"), "docker: devices of this machine"),
        "gpus": Field(
            Text(r"all|[1-9][0-9]?", "`all` or a number", numbers=True), "docker: graphics processors"
        ),
        "mem_limit": Field(Memory(), "docker: the most memory it may use"),
        "cpus": Field(Number(0.01, 4096), "docker: how many processors it may use"),
        "depends_on": Field(Dependencies(), "services that are started, and ready, before"),
        "restart": Field(
            Text(_RESTART, "`no`, `always`, `on-failure`, `on-failure:N` or `unless-stopped`"),
            "whether it is started again when it ends",
            default="no",
        ),
        "ready": Field(READY, "how it is found out that it does its work"),
    },
    hints={
        "healthcheck": "write `ready: {command: …}`, or `ready: {tcp: PORT}`",
        "ports": "leave it out: other nodes reach every port of a service",
        "expose": "leave it out: other nodes reach every port of a service",
        "networks": "leave it out: a service has the network of its node",
        "network_mode": "leave it out: a service has the network of its node",
        "hostname": "leave it out: a service has the name of its node",
        "container_name": "leave it out: `NODE/SERVICE` names it",
        "deploy": "`nodes` says where it runs; `mem_limit` and `cpus` limit it",
        "privileged": "`cap_add` and `devices` give what it needs",
        "node": "did you mean `nodes`?",
    },
)
