"""From an HTTP request to the message of an operator."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.controller.rest.errors import RequestInvalid
from orchestrator.controller.rest.schema import hints_of
from orchestrator.controller.rest.table import Route
from orchestrator.errors import nearest_hint
from orchestrator.impairment import FIELDS, LinkSpec
from orchestrator.protocol import BadBody, Message
from orchestrator.protocol.schema import decode_body, decode_value
from orchestrator.values import brief

__all__ = ["message_of", "parameter"]


def message_of(
    route: Route, path: Mapping[str, str], query: Sequence[tuple[str, str]], body: bytes
) -> tuple[Message, dict[str, Any]]:
    """Return the message that a request means, and the parameters of its path.

    Raises:
        RequestInvalid: A parameter or the body is not what the route takes.
        BadBody: A field is missing, or has the wrong type or range.
    """
    hints = hints_of(route.message)
    params = {
        name: parameter(name, text, route.answer.params.get(name, hints.get(name)))
        for name, text in path.items()
    }
    fields = {name: value for name, value in params.items() if name in hints}
    for name, text in query:
        if name not in route.query:
            raise _unknown("parameter", name, route.query)
        fields[name] = parameter(name, text, hints[name])
    fields.update(_body(route, body))
    fields.update(route.fixed)
    fields.update(route.derived(params))
    message: Message = decode_body(route.message, fields)
    return message, params


def parameter(name: str, text: str, hint: Any) -> Any:
    """Read a parameter of a path or a query.

    Raises:
        RequestInvalid: It has the wrong type or range.
    """
    value: Any = int(text) if re.fullmatch("[0-9]{1,20}", text) and hint_is_integer(hint) else text
    if hint is bool:
        value = {"true": True, "false": False}.get(text, text)
    try:
        return decode_value(hint, value)
    except BadBody as error:
        raise RequestInvalid(
            f"the parameter `{name}` is wrong: {error.message}", id="rest.parameter", found=brief(text)
        ) from None


def hint_is_integer(hint: Any) -> bool:
    """Tell whether an annotation is that of an integer."""
    return getattr(hint, "__origin__", hint) is int


def _body(route: Route, body: bytes) -> dict[str, Any]:
    if not body.strip() and not route.required:
        return {}
    try:
        value = json.loads(body, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RequestInvalid(
            f"the body is not JSON: {brief(str(error))}", id="rest.body", expected="a JSON object"
        ) from None
    if not isinstance(value, dict):
        raise RequestInvalid("the body is no JSON object", id="rest.body", found=brief(value))
    for name in value:
        if name not in route.body:
            raise _unknown("field", name, route.body)
    for name in route.required:
        if value.get(name) is None:
            raise RequestInvalid(f"the body lacks the field `{name}`", id="rest.field", expected=name)
    hints = hints_of(route.message)
    for name, each in value.items():
        if isinstance(each, dict) and LinkSpec in getattr(hints[name], "__args__", ()):
            _check_spec(each)
    return value


def _check_spec(spec: Mapping[str, Any]) -> None:
    """Refuse unknown fields: the protocol ignores them, because a newer peer may know more."""
    known = [name for name in FIELDS if name != "trace_data"]
    for name in spec:
        if name not in known:
            raise _unknown("field", name, known)


def _unknown(what: str, name: str, known: Sequence[str]) -> RequestInvalid:
    expected = ", ".join(known) or "none"
    hint = nearest_hint(name, known)
    return RequestInvalid(
        f"there is no {what} {brief(name)} here",
        id="rest.field",
        found=name[:100],
        expected=expected,
        hint=hint,
    )


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
