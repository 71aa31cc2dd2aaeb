"""What the fields of a link specification mean together: combinations that no link can have."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

from orchestrator.impairment.quantiles import moments
from orchestrator.impairment.rules import TABLE, Impossible
from orchestrator.units import Duration, Size

if TYPE_CHECKING:
    from orchestrator.impairment.spec import LinkSpec

__all__ = ["check_key", "check_link"]

MOST_JITTER = 3
"""The most jitter of a link that reorders packets, as a multiple of its delay; the same in the dataplane."""

CODEL_TARGET_US, CODEL_INTERVAL_US = 5_000, 100_000
"""What CoDel takes where nothing is stated (RFC 8289, sections 4.3 and 4.4); the same in the dataplane."""

PACKET_BYTES = 1_500
"""A full packet of a link without an MTU of its own: the default MTU of nodes."""

_PARAMETERS = {
    "red": {"min": "red_min_bytes", "max": "red_max_bytes", "p": "red_probability"},
    "codel": {"target": "codel_target_us", "interval": "codel_interval_us"},
}
_LARGEST_CLASS = {"dst_port": 2**16 - 1, "src_port": 2**16 - 1, "dscp": 63}


def check_key(spec: LinkSpec) -> None:
    """Check what the fields of each key mean together.

    Raises:
        ValueError: No link can have them; an `Impossible` says what helps.
    """
    for check in (_check_table, _check_loss_burst, _check_gap, _check_queue, _check_classes):
        check(spec)


def check_link(spec: LinkSpec) -> None:
    """Check what all keys mean together.

    Raises:
        Impossible: No link can do that.
    """
    for check in (
        _check_trace,
        _check_jitter,
        _check_burst,
        _check_what_needs_a_rate,
        _check_red_limit,
        _check_ecn,
    ):
        check(spec)


# The fields of one key together.


def _check_table(spec: LinkSpec) -> None:
    if (spec.jitter_distribution == TABLE) != (spec.jitter_table is not None):
        raise ValueError("the distribution `table` needs jitter_table, and only that has one")
    table = spec.jitter_table
    if table is None:
        return
    if any(low > high for low, high in pairwise(table)):
        raise ValueError("jitter_table is not in ascending order, which is expected")
    mean, deviation = moments(table)
    if abs(mean) > 0.01 or abs(deviation - 1) > 0.01:
        raise ValueError(
            f"jitter_table has the mean {mean:.3g} and the deviation {deviation:.3g}, "
            "but 0 and 1 are expected"
        )


def _check_loss_burst(spec: LinkSpec) -> None:
    loss, burst = spec.loss, spec.loss_burst
    # With p = P(not lost -> lost), the mean loss is p * burst / (1 + p * burst).
    if loss is not None and burst is not None and loss > burst * (1.0 - loss) * (1 + 1e-9):
        raise Impossible(
            f"a mean loss of {loss * 100:g} % does not come in bursts of {burst:g}: "
            "between two bursts at least one packet passes",
            _burst_hint(loss, burst),
        )


def _check_gap(spec: LinkSpec) -> None:
    if spec.reorder_gap is not None and not spec.reorder:
        raise Impossible(
            f"a gap of {spec.reorder_gap} needs a share of packets to reorder",
            "write a `share` above 0, or leave out `gap`",
        )


def _burst_hint(loss: float, burst: float) -> str:
    """Return which burst goes with a loss, and which loss with a burst, rounded to what is possible."""
    if loss == 1:
        return "leave out `burst`: every packet is lost"
    least = math.ceil(loss / (1 - loss) * 100 * (1 - 1e-10)) / 100
    most = math.floor(burst / (1 + burst) * 1e4) / 100
    return f"write a burst of at least {least:.12g}, or a mean of at most {most:g} %"


def _check_queue(spec: LinkSpec) -> None:
    for queue, parameters in _PARAMETERS.items():
        for part, name in parameters.items():
            if getattr(spec, name) is not None and spec.queue != queue:
                raise Impossible(
                    f"`{part}` belongs to the queue `{queue}`, but this one is `{spec.queue}`",
                    f"write `type: {queue}`",
                )
    low, high = spec.red_min_bytes, spec.red_max_bytes
    if low is not None and high is not None and low >= high:
        raise Impossible(
            f"RED with `min` at {Size(low)} and `max` at {Size(high)} has no range in which it drops some "
            "packets",
            "`max` is larger than `min`; three times as large is usual",
        )
    if spec.queue == "codel":
        target, interval = spec.codel_target_us, spec.codel_interval_us
        target = CODEL_TARGET_US if target is None else target
        interval = CODEL_INTERVAL_US if interval is None else interval
        if target >= interval:
            raise Impossible(
                f"CoDel with a target of {Duration(target)} and an interval of {Duration(interval)} "
                "would find every waiting time too long or none",
                "the target is less than the interval, usually 5 to 10 % of it (RFC 8289)",
            )


def _check_classes(spec: LinkSpec) -> None:
    by, weights = spec.scheduler_by, spec.scheduler_weights
    if spec.scheduler == "fifo" and (by is not None or weights is not None):
        raise Impossible("the scheduler `fifo` has no classes", "write `type: drr` or `type: priority`")
    if spec.scheduler == "priority" and not weights:
        raise Impossible(
            "the scheduler `priority` needs the priority of at least one class; the others have 1",
            "write for example `{type: priority, weights: {22: 2}, by: dst_port}`",
        )
    if not weights:
        return
    if by is None or by == "flow":
        raise Impossible(
            "weights need a property by which packets are sorted, and flows have no number",
            "write `by: dst_port`, `src_port`, `source`, `destination` or `dscp` as well",
        )
    largest = _LARGEST_CLASS.get(by, 2**32 - 1)
    if max(weights) > largest:
        raise Impossible(f"the class {max(weights)} does not exist: by `{by}` they end at {largest}")


# Several keys together.


def _check_trace(spec: LinkSpec) -> None:
    stated = {
        "rate": spec.rate_bps,
        "delay": spec.delay_us,
        "jitter": spec.jitter_us,
        "loss": spec.loss,
    }
    for key in spec.set_by_trace:
        if stated.get(key) is not None:
            what = "delay, which has no jitter then" if key == "jitter" else key
            raise Impossible(
                f"the trace `{spec.trace_file}` sets the {what}, and `{key}` is stated as well",
                f"leave out `{key}`, or write `trace: none`",
            )


def _check_jitter(spec: LinkSpec) -> None:
    jitter, delay = spec.jitter_us or 0, spec.delay_us or 0
    if jitter > delay and not spec.jitter_reorder:
        raise Impossible(
            f"a jitter of {Duration(jitter)} is larger than the delay, {Duration(delay)}; "
            "that is possible only with `reorder: true`"
        )
    if jitter > MOST_JITTER * delay:
        raise Impossible(
            f"a jitter of {Duration(jitter)} is more than {MOST_JITTER} times the delay, "
            f"{Duration(delay)}; a delay is never below zero"
        )


def _check_burst(spec: LinkSpec) -> None:
    burst, packet = spec.rate_burst_bytes, spec.mtu or PACKET_BYTES
    # The content begins with the kind of the trace; 1 is a packet delivery file of Mahimahi.
    if burst is not None and spec.trace_data and spec.trace_data[0] == 1:
        raise Impossible(
            f"the trace `{spec.trace_file}` states when each packet may leave, and `burst` is stated as well",
            "leave out `burst`, or write `trace: none`",
        )
    if burst is not None and burst < packet:
        raise Impossible(
            f"a burst of {Size(burst)} is smaller than one packet of {packet} B",
            f"write at least `{packet} B`; without `burst`, one packet at a time is sent",
        )


def _check_red_limit(spec: LinkSpec) -> None:
    if spec.queue != "red" or spec.red_min_bytes is not None or spec.red_max_bytes is not None:
        return
    if spec.queue_limit_bytes == 0:
        raise Impossible(
            "RED takes its `min` and `max` from the limit of the queue, which is less than a byte here",
            "write a larger `limit`, or state `min` and `max`",
        )


def _check_what_needs_a_rate(spec: LinkSpec) -> None:
    if spec.rate_bps is not None or "rate" in spec.set_by_trace:
        return
    needing = {
        "burst": spec.rate_burst_bytes is not None,
        "limit": spec.limit_us is not None,
        "queue": spec.queue not in (None, "taildrop"),
        "ecn": bool(spec.ecn),
        "scheduler": spec.scheduler not in (None, "fifo"),
    }
    for key, stated in needing.items():
        if stated:
            what = "`limit` in time" if key == "limit" else f"`{key}`"
            raise Impossible(
                f"{what} needs a `rate`: without one, no packet waits for transmission",
                "write for example `rate: 100 Mbit` as well",
            )


def _check_ecn(spec: LinkSpec) -> None:
    if spec.ecn and spec.queue not in ("red", "codel"):
        raise Impossible(
            "`ecn` needs a queue that marks packets before it is full, and `taildrop` does not",
            "write `queue: codel` or `queue: red` as well",
        )
