"""The impairments of one direction of a link, from its rate to its MTU.

One frozen class, used by the topology file, live changes, the control protocol, the store and the node's
settings. Every field is optional; an absent field has no effect on packets. A link without any takes the fast
path, which a value of zero does not.

A key of the topology file may have several fields: `jitter` has `jitter_us`, `jitter_distribution` and more,
`limit` has one in bytes, packets or microseconds. `FIELDS` says which field belongs to which key, and what it
may be; readers, writers and settings iterate over it. `over` replaces the fields of a key together.

A trace is named by a digest of its content, which `trace_data` holds. The content is left out of what is
shown and of versions, and stored apart from links, once for each digest.

Field names carry the unit: `rate_bps`, `delay_us`, `limit_bytes`. The queue limit bounds the queue before the
serializer or, without a rate, the packets in the delay stage. With a rate and no limit, the dataplane takes
50 ms of the rate, or two delays if that is longer, and at least what one TCP stream needs; the memory of one
direction is bounded in any case (`docs/concepts/emulation.md`).
"""

from __future__ import annotations

from orchestrator.impairment.metric import METRICS, link_length
from orchestrator.impairment.quantiles import moments
from orchestrator.impairment.rules import (
    CLASS_KEYS,
    DISTRIBUTIONS,
    MOST_QUANTILES,
    MOST_TRACE_BYTES,
    MOST_WEIGHTS,
    QUEUES,
    SCHEDULERS,
    FieldKind,
    FieldRule,
    Impossible,
)
from orchestrator.impairment.spec import FIELDS, PLAIN, LinkSpec
from orchestrator.impairment.traces import (
    check_traces,
    trace_contents,
    trace_from_text,
    trace_to_text,
    with_trace,
)

__all__ = [
    "CLASS_KEYS",
    "DISTRIBUTIONS",
    "FIELDS",
    "METRICS",
    "MOST_QUANTILES",
    "MOST_TRACE_BYTES",
    "MOST_WEIGHTS",
    "PLAIN",
    "QUEUES",
    "SCHEDULERS",
    "FieldKind",
    "FieldRule",
    "Impossible",
    "LinkSpec",
    "check_traces",
    "link_length",
    "moments",
    "trace_contents",
    "trace_from_text",
    "trace_to_text",
    "with_trace",
]
