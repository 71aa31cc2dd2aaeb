"""Structured logging, configured once at the start of a program.

A line is an event in the past tense followed by values as fields, identifiers first:

    info  link changed  run=7f3c link=a→b delay_us=20000 cause=scenario

Levels: `error`, a person has to act; `warning`, something was lost or retried and the lab continues; `info`,
a state changed; `debug`, why it changed. There are no per-packet events; the dataplane has counters.

Logs go to stderr: stdout carries data alone.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, TextIO

__all__ = ["FieldLogger", "get", "setup"]

_FIELDS = "nm_fields"


def get(name: str, **fields: object) -> FieldLogger:
    """Return the logger of a module, with fields that every line of it will carry."""
    return FieldLogger(logging.getLogger(name), fields)


def setup(level: str = "info", *, style: str = "text", stream: TextIO | None = None) -> None:
    """Send the log to a stream; call it once, at the start of a program.

    Args:
        level: `error`, `warning`, `info` or `debug`.
        style: `text` for people, `json` for machines (one object a line, with a time).
        stream: Where to write; stderr unless given.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_JsonFormatter() if style == "json" else _TextFormatter())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())


class FieldLogger:
    """A logger whose calls take an event and its fields, never a format string."""

    __slots__ = ("_fields", "_logger")

    def __init__(self, logger: logging.Logger, fields: dict[str, object]) -> None:
        self._logger = logger
        self._fields = fields

    def bind(self, **fields: object) -> FieldLogger:
        """Return a logger that adds these fields to every line."""
        return FieldLogger(self._logger, {**self._fields, **fields})

    def debug(self, event: str, **fields: object) -> None:
        """Log why something changed."""
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        """Log that a state changed."""
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        """Log that something was lost or retried and work continues."""
        self._log(logging.WARNING, event, fields)

    def error(self, event: str, **fields: object) -> None:
        """Log that a person has to act."""
        self._log(logging.ERROR, event, fields)

    def exception(self, event: str, **fields: object) -> None:
        """Like `error`, with the traceback of the exception being handled."""
        self._log(logging.ERROR, event, fields, exc_info=True)

    def _log(self, level: int, event: str, fields: dict[str, object], *, exc_info: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            extra = {_FIELDS: {**self._fields, **fields}}
            # The event is an argument, not the format: a per-cent sign in it is just a per-cent sign.
            self._logger.log(level, "%s", event, extra=extra, exc_info=exc_info)


class _TextFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        parts = [record.levelname.lower(), record.getMessage()]
        fields: dict[str, Any] = getattr(record, _FIELDS, {})
        if fields:
            parts.append(" ".join(f"{key}={_plain(value)}" for key, value in fields.items()))
        line = "  ".join(parts)
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _JsonFormatter(logging.Formatter):
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


def _plain(value: object) -> str:
    text = str(value)
    if text and not any(c.isspace() for c in text):
        return text
    import json

    return json.dumps(text, ensure_ascii=False)
