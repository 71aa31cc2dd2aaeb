"""The impairments of one direction of a link: rate, delay, loss and queue limit.

One frozen class, used by the topology file, live changes, the control protocol and the node's settings. Every
field is optional; an absent field has no effect on packets. A link without any takes the fast path, which a
value of zero does not.

Field names carry the unit: `rate_bps`, `delay_us`, `limit_bytes`. The queue limit bounds the queue before the
serializer or, without a rate, the packets in the delay stage. With a rate and no limit, the dataplane takes
50 ms of the rate, or two delays if that is longer, and at least what one TCP stream needs; the memory of one
direction is bounded in any case (`docs/concepts/emulation.md`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

__all__ = ["PLAIN", "LinkSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """The impairments of one direction of a link.

    Attributes:
        rate_bps: Serialisation rate in bits per second, headers of each MTU segment included; more than 0.
        delay_us: Constant one-way delay in microseconds.
        loss: Probability that an MTU segment is lost, 0 to 1.
        limit_bytes: Room before the serializer, in bytes; without a rate, of the delay.
        limit_packets: The same, in MTU segments; with both, the tighter one drops.
    """

    rate_bps: int | None = None
    delay_us: int | None = None
    loss: float | None = None
    limit_bytes: int | None = None
    limit_packets: int | None = None

    def __post_init__(self) -> None:
        _at_least(1, rate_bps=self.rate_bps, limit_bytes=self.limit_bytes, limit_packets=self.limit_packets)
        _at_least(0, delay_us=self.delay_us)
        if self.loss is not None and not 0.0 <= self.loss <= 1.0:
            raise ValueError(f"loss is {self.loss}, but a probability lies between 0 and 1")

    @property
    def is_plain(self) -> bool:
        """Tell whether packets pass untouched."""
        return not self.to_wire()

    def over(self, base: LinkSpec) -> LinkSpec:
        """Return `base` with the fields that this one states laid over it."""
        return replace(base, **self.to_wire())

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
            if isinstance(value, bool) or not isinstance(value, (int, float) if name == "loss" else int):
                raise ValueError(f"{name} is {value!r}, but a number is expected")
            known[name] = float(value) if name == "loss" else value
        return cls(**known)


_NAMES = tuple(field.name for field in fields(LinkSpec))


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
