"""A limit of a benchmark, and its evaluation. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Limit", "LimitResult"]


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit: a lower bound where `at_least` is set, else an upper bound."""

    key: str
    title: str
    unit: str
    bound: float
    at_least: bool = False

    def kept(self, value: float) -> bool:
        """Whether a value keeps the limit; a value equal to it does."""
        return value >= self.bound if self.at_least else value <= self.bound

    def result(self, value: float, detail: str) -> LimitResult:
        """Compare a measured value with the limit."""
        return LimitResult(self, value, self.kept(value), detail)


@dataclass(frozen=True, slots=True)
class LimitResult:
    """A limit with the measured value; without a value `detail` holds the reason."""

    limit: Limit
    value: float | None
    ok: bool | None
    detail: str

    def as_json(self) -> dict[str, Any]:
        """Return the result as records store it: there the limit is called `goal`."""
        return {"goal": asdict(self.limit), "value": self.value, "ok": self.ok, "detail": self.detail}
