"""Structured logging, configured once at the start of a program.

A line is an event in the past tense followed by values as fields, identifiers first:

    info  link changed  run=7f3c link=a→b delay_us=20000 cause=scenario

Levels: `error`, a person has to act; `warning`, something was lost or retried and the lab continues; `info`,
a state changed; `debug`, why it changed. There are no per-packet events; the dataplane has counters.

Logs go to stderr: stdout carries data alone.

The standard library's `logging` is imported by `setup` or by the first line, not with this module: with all
that it imports it takes a sixth of the start of a container's node.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # as type checkers understand it, without importing `typing`
if TYPE_CHECKING:
    import logging
    from typing import Any, TextIO

__all__ = ["FieldLogger", "get", "setup", "setup_plain"]

_FIELDS = "nm_fields"

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
"""The numbers that the standard library gives them."""

_plain_level: int | None = None
"""From which level on lines are written directly, after `setup_plain`."""


def get(name: str, **fields: object) -> FieldLogger:
    """Return the logger of a module, with fields that every line of it will carry."""
    return FieldLogger(name, fields)


def setup(level: str = "info", *, style: str = "text", stream: TextIO | None = None) -> None:
    """Send the log to a stream; call it once, at the start of a program.

    Args:
        level: `error`, `warning`, `info` or `debug`.
        style: `text` for people, `json` for machines (one object a line, with a time).
        stream: Where to write; stderr unless given.
    """
    import logging

    global _plain_level
    _plain_level = None
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_formatter(style))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())


def setup_plain(level: str) -> None:
    """Write lines of our own loggers to stderr as text, without `logging`; `setup` may follow later."""
    global _plain_level
    _plain_level = _LEVELS[level]


class FieldLogger:
    """A logger whose calls take an event and its fields, never a format string."""

    __slots__ = ("_fields", "_logger", "_name")

    def __init__(self, name: str, fields: dict[str, object]) -> None:
        self._name = name
        self._fields = fields
        self._logger: logging.Logger | None = None

    def bind(self, **fields: object) -> FieldLogger:
        """Return a logger that adds these fields to every line."""
        return FieldLogger(self._name, {**self._fields, **fields})

    def debug(self, event: str, **fields: object) -> None:
        """Log why something changed."""
        self._log("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log that a state changed."""
        self._log("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log that something was lost or retried and work continues."""
        self._log("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log that a person has to act."""
        self._log("error", event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """Like `error`, with the traceback of the exception being handled."""
        self._log("error", event, fields, exc_info=True)

    def _log(self, level: str, event: str, fields: dict[str, object], *, exc_info: bool = False) -> None:
        number = _LEVELS[level]
        if _plain_level is not None:
            if number >= _plain_level:
                _write(level, event, {**self._fields, **fields}, exc_info=exc_info)
            return
        if self._logger is None:
            import logging

            self._logger = logging.getLogger(self._name)
        if self._logger.isEnabledFor(number):
            extra = {_FIELDS: {**self._fields, **fields}}
            # The event is an argument, not the format: a per-cent sign in it is just a per-cent sign.
            self._logger.log(number, "%s", event, extra=extra, exc_info=exc_info)


def _write(level: str, event: str, fields: dict[str, object], *, exc_info: bool) -> None:
    line = _text(level, event, fields)
    if exc_info:
        import traceback

        line = f"{line}\n{traceback.format_exc().rstrip()}"
    # As `logging` does: a full disk or a closed stream loses the line and does not end the program.
    try:  # noqa: SIM105  # `contextlib` would add to a node's start
        print(line, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def _text(level: str, event: str, fields: dict[str, Any]) -> str:
    parts = [level, event]
    if fields:
        parts.append(" ".join(f"{key}={_plain(value)}" for key, value in fields.items()))
    return "  ".join(parts)


def _formatter(style: str) -> logging.Formatter:
    import logging

    class TextFormatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            line = _text(record.levelname.lower(), record.getMessage(), getattr(record, _FIELDS, {}))
            return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line

    class JsonFormatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            import json
            from datetime import UTC, datetime

            line: dict[str, Any] = {
                "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
                "level": record.levelname.lower(),
                "event": record.getMessage(),
                "logger": record.name,
            }
            line.update(getattr(record, _FIELDS, {}))
            if record.exc_info:
                line["traceback"] = self.formatException(record.exc_info)
            return json.dumps(line, default=str, ensure_ascii=False)

    return JsonFormatter() if style == "json" else TextFormatter()


def _plain(value: object) -> str:
    text = str(value)
    if text and not any(c.isspace() for c in text):
        return text
    import json

    return json.dumps(text, ensure_ascii=False)
