"""Turn the health check of a compose file into what makes a service ready.

A check is made again and again while a container runs; a service is ready once, at the start. So the command
is kept, and one time limit is made of the interval, the timeout, the retries and the start period.

Source:
    https://docs.docker.com/reference/compose-file/services/#healthcheck
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

from orchestrator.importers.yamlfile import text_of
from orchestrator.source import Value
from orchestrator.units import Duration

__all__ = ["KEYS", "ready_of", "time_of"]

KEYS = ("test", "interval", "timeout", "retries", "start_period", "start_interval", "disable")
_UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
_PART = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(us|ms|s|m|h)")
_LEAST, _MOST = 1_000_000, 86_400_000_000
_DEFAULT = 30_000_000


def ready_of(check: Value) -> dict[str, Any] | None:
    """Return the key `ready` of a service; None if there is no check, or none that is understood."""
    test = check.get("test")
    if test is None or text_of(check.get("disable")) == "true":
        return None
    words = [text_of(item) for item in test.sequence] if test.sequence is not None else []
    command = words[1:]
    if test.sequence is None:
        command = ["sh", "-c", text_of(test)] if text_of(test) else []
    elif words[:1] == ["CMD-SHELL"]:
        command = ["sh", "-c", " ".join(words[1:])] if words[1:] else []
    elif words[:1] != ["CMD"]:
        command = []
    if not command:
        return None
    interval, timeout = (time_of(check.get(key), _DEFAULT) for key in ("interval", "timeout"))
    retries = check.get("retries")
    times = retries.data if retries is not None and isinstance(retries.data, int) else 3
    total = time_of(check.get("start_period"), 0) + min(max(times, 1), 10_000) * (interval + timeout)
    return {"command": command, "timeout": str(Duration(min(max(total, _LEAST), _MOST)))}


def time_of(value: Value | None, default: int) -> int:
    """Return a time of Compose's such as `1m30s` in microseconds."""
    text = text_of(value)
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return default
    return round(sum(Fraction(number) * _UNITS[unit] for number, unit in parts))
