"""Change a link as the page asks, in the words of `nm link set`."""

from __future__ import annotations

from typing import Any

from orchestrator.errors import UsageError, nearest_hint, quoted
from orchestrator.protocol.messages import SetLinkSpec, SetLinkState
from orchestrator.topology.link_keys import LIVE_FIELDS
from orchestrator.topology.links import read_change
from orchestrator.view.source import Source

__all__ = ["change_link"]

ACTIONS = ("set", "down", "up", "reset")
DIRECTIONS = ("both", "forward", "backward")
CAUSE = "nm view"
_KEYS = ("action", "direction", "values")


async def change_link(source: Source, a: int, b: int, asked: object) -> dict[str, Any]:
    """Change a link.

    Args:
        source: The lab.
        a: One end; `forward` is from it to `b`.
        b: The other end.
        asked: `action` (set, down, up, reset), `direction` (both, forward, backward), and for `set` the
            `values`, texts by key of a link.

    Returns:
        What is in force afterwards.

    Raises:
        UsageError: It asks for something that there is not (`view.request`), or states nothing.
        LinkChangeInvalid: A value is wrong.
        ProtocolError: The controller refuses it.
    """
    if not isinstance(asked, dict) or not set(asked) <= set(_KEYS):
        raise UsageError(
            "the request is not a change of a link", id="view.request", expected=f"a map of {quoted(_KEYS)}"
        )
    action = _one_of(ACTIONS, asked.get("action", "set"), "action")
    direction = _one_of(DIRECTIONS, asked.get("direction", "both"), "direction")
    if action in ("down", "up"):
        return await source.set_link_state(SetLinkState(a, b, action == "down", direction, cause=CAUSE))
    if action == "reset":
        return await source.set_link(SetLinkSpec(a, b, direction, reset=True, cause=CAUSE))
    change = read_change(_stated(asked.get("values")))
    return await source.set_link(
        SetLinkSpec(
            a,
            b,
            direction,
            change.forward,
            merge=not change.whole,
            cause=CAUSE,
            backward=change.backward,
        )
    )


def _stated(values: object) -> dict[str, str]:
    if not isinstance(values, dict) or not values or not all(isinstance(v, str) for v in values.values()):
        raise UsageError("nothing to set", expected=f"texts by key: {quoted(LIVE_FIELDS)}", id="view.request")
    for key in values:
        if key not in LIVE_FIELDS:
            raise UsageError(
                f"a link has no key `{key}`",
                id="view.request",
                found=str(key),
                expected=f"one of {quoted(LIVE_FIELDS)}",
                hint=nearest_hint(str(key), LIVE_FIELDS),
            )
    return {str(key): str(value) for key, value in values.items()}


def _one_of(known: tuple[str, ...], word: object, what: str) -> str:
    if word not in known:
        raise UsageError(
            f"`{word}` is no {what}", id="view.request", found=str(word), expected=f"one of {quoted(known)}"
        )
    return str(word)
