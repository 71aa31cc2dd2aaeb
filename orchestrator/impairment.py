"""The impairments of one direction of a link: rate, delay, jitter, loss and queue limit.

One frozen class, used by the topology file, live changes, the control protocol and the node's settings. Every
field is optional; an absent field has no effect on packets. A link without any takes the fast path, which a
value of zero does not.

A key of the topology file may have several fields: `jitter` has `jitter_us`, `jitter_distribution` and
`jitter_reorder`, `loss` has `loss` and `loss_burst`, `limit` has `limit_bytes` or `limit_packets`. `over`
replaces the fields of a key together.

Field names carry the unit: `rate_bps`, `delay_us`, `limit_bytes`. The queue limit bounds the queue before the
serializer or, without a rate, the packets in the delay stage. With a rate and no limit, the dataplane takes
50 ms of the rate, or two delays if that is longer, and at least what one TCP stream needs; the memory of one
direction is bounded in any case (`docs/concepts/emulation.md`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from orchestrator.units import Duration

__all__ = ["DISTRIBUTIONS", "PLAIN", "LinkSpec"]

DISTRIBUTIONS = ("normal", "uniform", "pareto")
"""How a delay with jitter may be distributed."""

MOST_JITTER = 3
"""The most jitter of a link that reorders packets, as a multiple of its delay; the same in the dataplane."""

_MAIN = {"jitter_distribution": "jitter_us", "jitter_reorder": "jitter_us", "loss_burst": "loss"}
"""Fields that belong to a key, and the field without which they mean nothing."""

_LIMITS = ("limit_bytes", "limit_packets")
"""The fields of the key `limit`; either may be stated alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """The impairments of one direction of a link.

    Attributes:
        rate_bps: Serialisation rate in bits per second, headers of each MTU segment included; more than 0.
        delay_us: One-way delay in microseconds; its mean where there is jitter.
        jitter_us: Standard deviation of the delay in microseconds.
        jitter_distribution: How the delay is distributed, one of `DISTRIBUTIONS`; `normal` if absent.
        jitter_reorder: Whether packets with a shorter delay overtake earlier ones; no if absent.
        loss: Probability that an MTU segment is lost, 0 to 1.
        loss_burst: Mean number of consecutive segments that are lost together; independent losses if absent.
        limit_bytes: Room before the serializer, in bytes; without a rate, of the delay.
        limit_packets: The same, in MTU segments; with both, the tighter one drops.
    """

    rate_bps: int | None = None
    delay_us: int | None = None
    jitter_us: int | None = None
    jitter_distribution: str | None = None
    jitter_reorder: bool | None = None
    loss: float | None = None
    loss_burst: float | None = None
    limit_bytes: int | None = None
    limit_packets: int | None = None

    def __post_init__(self) -> None:
        _at_least(1, rate_bps=self.rate_bps, limit_bytes=self.limit_bytes, limit_packets=self.limit_packets)
        _at_least(0, delay_us=self.delay_us, jitter_us=self.jitter_us)
        if self.loss is not None and not 0.0 <= self.loss <= 1.0:
            raise ValueError(f"loss is {self.loss}, but a probability lies between 0 and 1")
        if self.jitter_distribution is not None and self.jitter_distribution not in DISTRIBUTIONS:
            known = ", ".join(DISTRIBUTIONS)
            raise ValueError(f"jitter_distribution is {self.jitter_distribution!r}, but is one of {known}")
        if self.loss_burst is not None:
            self._check_burst(self.loss_burst)
        for name, main in _MAIN.items():
            if getattr(self, name) is not None and getattr(self, main) is None:
                raise ValueError(f"{name} needs {main}")

    def _check_burst(self, burst: float) -> None:
        if not 1.0 <= burst < math.inf:
            raise ValueError(f"the mean burst is {burst:g}, but a burst has at least one packet")
        # With p = P(not lost -> lost), the mean loss is p * burst / (1 + p * burst).
        if self.loss is not None and self.loss > burst * (1.0 - self.loss) * (1 + 1e-9):
            raise ValueError(
                f"a mean loss of {self.loss * 100:g} % does not come in bursts of {burst:g}: "
                "between two bursts at least one packet passes"
            )

    def check(self) -> None:
        """Check what the values mean together on a link; a live change alone may state part of them.

        Raises:
            ValueError: No link can do that.
        """
        jitter, delay = self.jitter_us or 0, self.delay_us or 0
        if jitter > delay and not self.jitter_reorder:
            raise ValueError(
                f"a jitter of {Duration(jitter)} is larger than the delay, {Duration(delay)}; "
                "that is possible only with `reorder: true`"
            )
        if jitter > MOST_JITTER * delay:
            raise ValueError(
                f"a jitter of {Duration(jitter)} is more than {MOST_JITTER} times the delay, "
                f"{Duration(delay)}; a delay is never below zero"
            )

    @property
    def is_plain(self) -> bool:
        """Tell whether packets pass untouched."""
        return not self.to_wire()

    def over(self, base: LinkSpec) -> LinkSpec:
        """Return `base` with the fields that this one states laid over it; those of one key go together."""
        stated = self.to_wire()
        replaced: dict[str, None] = {name: None for name, main in _MAIN.items() if main in stated}
        if not stated.keys().isdisjoint(_LIMITS):
            replaced |= dict.fromkeys(_LIMITS)
        return replace(base, **(replaced | stated))

    def to_wire(self) -> dict[str, Any]:
        """Return the stated fields by name, as the protocol and the TOML files carry them."""
        values = ((name, getattr(self, name)) for name in _NAMES)
        return {name: value for name, value in values if value is not None}

    @classmethod
    def from_wire(cls, data: Mapping[str, Any] | None) -> LinkSpec:
        """Read what `to_wire` wrote; unknown fields are a newer peer's and are ignored.

        Raises:
            ValueError: A known field has the wrong type or lies outside its range.
        """
        known: dict[str, Any] = {}
        for name in _NAMES:
            value = (data or {}).get(name)
            if value is None:
                continue
            known[name] = _read(name, value)
        return cls(**known)


_NAMES = tuple(field.name for field in fields(LinkSpec))


def _read(name: str, value: Any) -> Any:
    if name == "jitter_distribution" or name == "jitter_reorder":
        kind, expected = (str, "a word") if name == "jitter_distribution" else (bool, "true or false")
        if type(value) is not kind:
            raise ValueError(f"{name} is {value!r}, but {expected} is expected")
        return value
    fraction = name in ("loss", "loss_burst")
    if isinstance(value, bool) or not isinstance(value, (int, float) if fraction else int):
        raise ValueError(f"{name} is {value!r}, but a number is expected")
    return float(value) if fraction else value


_MOST = 2**63 - 1
"""What messages and Postgres can hold."""


def _at_least(least: int, **values: int | None) -> None:
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{name} is {value}, but at least {least} is needed")
        if value is not None and value > _MOST:
            raise ValueError(f"{name} is too large: at most {_MOST} can be said")


PLAIN = LinkSpec()
"""A link that passes packets untouched."""
