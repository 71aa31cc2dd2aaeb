"""`LinkSpec`: the impairments of one direction of a link."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from orchestrator.impairment.checks import check_key, check_link
from orchestrator.impairment.queue_limit import effective_limit_bytes
from orchestrator.impairment.rules import (
    CLASS_KEYS,
    DISTRIBUTIONS,
    MOST_TRACE_BYTES,
    QUEUES,
    SCHEDULERS,
    TABLE,
    FieldKind,
    FieldRule,
    checked,
    of,
    share,
)

__all__ = ["FIELDS", "PLAIN", "LinkSpec"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSpec:
    """The impairments of one direction of a link; what each field means and may be stands in its rule."""

    rate_bps: int | None = of(
        "rate", FieldKind.RATE, "serialisation rate, headers of each MTU segment included", least=1
    )
    rate_burst_bytes: int | None = of(
        "burst", FieldKind.SIZE, "bytes that may leave back to back after the link was idle", least=1
    )
    delay_us: int | None = of("delay", FieldKind.DURATION, "one-way delay; its mean where there is jitter")
    jitter_us: int | None = of("jitter", FieldKind.DURATION, "standard deviation of the delay", part="std")
    jitter_distribution: str | None = of(
        "jitter",
        FieldKind.WORD,
        "how the delay is distributed; `normal` if absent",
        words=(*DISTRIBUTIONS, TABLE),
        part="distribution",
        main="jitter_us",
    )
    jitter_table: tuple[float, ...] | None = of(
        "jitter",
        FieldKind.NUMBERS,
        "quantiles of a distribution of one's own, ascending, with mean 0 and standard deviation 1",
        least=-1e6,
        most=1e6,
        main="jitter_us",
    )
    jitter_reorder: bool | None = of(
        "jitter",
        FieldKind.FLAG,
        "whether packets with a shorter delay overtake earlier ones; no if absent",
        part="reorder",
        main="jitter_us",
    )
    loss: float | None = share("loss", "probability that an MTU segment is lost", part="mean")
    loss_burst: float | None = of(
        "loss",
        FieldKind.NUMBER,
        "mean number of consecutive segments that are lost together; independent losses if absent",
        least=1,
        most=1e9,
        part="burst",
        main="loss",
    )
    duplicate: float | None = share("duplicate", "probability that a segment is delivered twice")
    reorder: float | None = share(
        "reorder", "probability that later segments overtake a segment", part="share"
    )
    reorder_gap: int | None = of(
        "reorder",
        FieldKind.COUNT,
        "how many segments overtake it; 1 if absent",
        least=1,
        most=2**16,
        part="gap",
        main="reorder",
    )
    corrupt: float | None = share("corrupt", "probability that one bit of a segment's payload is flipped")
    limit_bytes: int | None = of("limit", FieldKind.SIZE, "queue limit", least=1)
    limit_packets: int | None = of("limit", FieldKind.COUNT, "queue limit in MTU segments", least=1)
    limit_us: int | None = of("limit", FieldKind.DURATION, "queue limit in time of the rate", least=1)
    queue: str | None = of(
        "queue",
        FieldKind.WORD,
        "when the queue drops or marks packets; `taildrop` if absent",
        words=QUEUES,
        part="type",
    )
    red_min_bytes: int | None = of(
        "queue",
        FieldKind.SIZE,
        "RED: average length from which packets are dropped",
        least=1,
        part="min",
        main="queue",
    )
    red_max_bytes: int | None = of(
        "queue",
        FieldKind.SIZE,
        "RED: average length from which all are dropped",
        least=1,
        part="max",
        main="queue",
    )
    red_probability: float | None = share(
        "queue", "RED: probability of a drop at an average just below `max`", part="p", main="queue"
    )
    codel_target_us: int | None = of(
        "queue",
        FieldKind.DURATION,
        "CoDel: acceptable waiting time",
        least=1,
        part="target",
        main="queue",
    )
    codel_interval_us: int | None = of(
        "queue",
        FieldKind.DURATION,
        "CoDel: how long the waiting time exceeds the target before packets are dropped",
        least=1,
        part="interval",
        main="queue",
    )
    ecn: bool | None = of("ecn", FieldKind.FLAG, "whether ECN-capable packets are marked, not dropped")
    scheduler: str | None = of(
        "scheduler",
        FieldKind.WORD,
        "in which order queued packets are transmitted; `fifo` if absent",
        words=SCHEDULERS,
        part="type",
    )
    scheduler_by: str | None = of(
        "scheduler",
        FieldKind.WORD,
        "the property of a packet by which it is sorted; `flow` if absent",
        words=CLASS_KEYS,
        part="by",
        main="scheduler",
    )
    scheduler_weights: Mapping[int, int] | None = of(
        "scheduler",
        FieldKind.WEIGHTS,
        "weight (`drr`) or priority (`priority`) of classes; all others have 1",
        least=1,
        most=2**32 - 1,
        part="weights",
        main="scheduler",
    )
    # RFC 791: every host takes 576 bytes. Above, the largest MTU of a node.
    mtu: int | None = of(
        "mtu", FieldKind.COUNT, "largest IP packet that the link carries, in bytes", least=576, most=9_216
    )
    trace: str | None = of(
        "trace",
        FieldKind.TEXT,
        "digest of the recorded trace that the link plays; a live change to none has an empty one",
        most=64,
    )
    trace_file: str | None = of(
        "trace", FieldKind.TEXT, "name of its file", most=255, part="file", main="trace", compare=False
    )
    trace_sets: str | None = of(
        "trace", FieldKind.TEXT, "which of rate, delay and loss it sets", most=32, main="trace"
    )
    trace_rate_bps: int | None = of("trace", FieldKind.RATE, "its mean rate", least=1, main="trace")
    trace_loop: bool | None = of(
        "trace", FieldKind.FLAG, "whether it repeats after its last time", part="loop", main="trace"
    )
    trace_scale: float | None = of(
        "trace",
        FieldKind.NUMBER,
        "factor of its rates",
        least=0.001,
        most=1_000,
        part="scale",
        main="trace",
    )
    trace_shift_us: int | None = of(
        "trace", FieldKind.DURATION, "its time at the start", part="shift", main="trace"
    )
    trace_data: bytes | None = of(
        "trace",
        FieldKind.DATA,
        "its content, encoded",
        most=MOST_TRACE_BYTES,
        main="trace",
        compare=False,
    )

    def __post_init__(self) -> None:
        for name, rule in FIELDS.items():
            value = getattr(self, name)
            if value is None:
                continue
            object.__setattr__(self, name, checked(name, rule, value))
            if rule.main and getattr(self, rule.main) is None:
                raise ValueError(f"{name} needs {rule.main}")
        check_key(self)

    def check(self) -> None:
        """Check what the values mean together on a link; a live change alone may state part of them.

        Raises:
            Impossible: No link can do that.
        """
        check_link(self)

    @property
    def is_plain(self) -> bool:
        """Tell whether packets pass untouched."""
        return not self.to_wire()

    def over(self, base: LinkSpec) -> LinkSpec:
        """Return `base` with the fields that this one states laid over it; those of one key go together."""
        keys = {FIELDS[name].key for name in self._stated()}
        changed = {name: getattr(self, name) for name, rule in FIELDS.items() if rule.key in keys}
        if self.trace == "":
            changed["trace"] = None
        # What a trace sets has no value of its own any more.
        replaced = {*self.set_by_trace} - keys
        changed |= {name: None for name, rule in FIELDS.items() if rule.key in replaced}
        return replace(base, **changed)

    @property
    def set_by_trace(self) -> tuple[str, ...]:
        """The keys that its trace sets: those of `rate`, `delay` and `loss`, and `jitter` with the delay."""
        found = tuple(filter(None, (self.trace_sets or "").split(",")))
        return (*found, "jitter") if "delay" in found else found

    @property
    def queue_limit_bytes(self) -> int | None:
        """The limit of the queue of this direction in bytes; see `effective_limit_bytes`."""
        return effective_limit_bytes(
            rate_bps=self.trace_rate_bps or self.rate_bps,
            delay_us=self.delay_us,
            limit_bytes=self.limit_bytes,
            limit_packets=self.limit_packets,
            limit_us=self.limit_us,
        )

    def to_wire(self) -> dict[str, Any]:
        """Return the stated fields by name, as they are shown and stored: without the content of a trace."""
        return {name: _plain(value) for name, value in self._stated().items() if name != "trace_data"}

    def to_message(self) -> dict[str, Any]:
        """Return the stated fields by name, as the protocol carries them."""
        return {name: _plain(value) for name, value in self._stated().items()}

    def without_data(self) -> LinkSpec:
        """Return the same without the content of its trace, for answers that only show it."""
        return self if self.trace_data is None else replace(self, trace_data=None)

    @classmethod
    def from_wire(cls, data: Mapping[str, Any] | None) -> LinkSpec:
        """Read what `to_wire` wrote; unknown fields are a newer peer's and are ignored.

        Raises:
            ValueError: A known field has the wrong type or lies outside its range.
        """
        stated = data or {}
        return cls(**{name: stated[name] for name in FIELDS if stated.get(name) is not None})

    def _stated(self) -> dict[str, Any]:
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}


FIELDS: Mapping[str, FieldRule] = {each.name: each.metadata["rule"] for each in fields(LinkSpec)}
"""The fields of `LinkSpec` by name, in the order in which they are shown."""

PLAIN = LinkSpec()
"""A link that passes packets untouched."""


def _plain(value: Any) -> Any:
    """Return a value as JSON, TOML and MessagePack can hold it."""
    if isinstance(value, Mapping):
        return {str(number): weight for number, weight in value.items()}
    return list(value) if isinstance(value, tuple) else value
