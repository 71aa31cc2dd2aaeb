"""The OpenAPI document of the REST API, made from the table of routes."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from orchestrator.controller.rest.answers import Nothing
from orchestrator.controller.rest.errors import STATUSES
from orchestrator.controller.rest.schema import Schemas, hints_of
from orchestrator.controller.rest.table import PREFIX, ROUTES, STREAM, Route

__all__ = ["openapi"]

_ERROR = {
    "type": "object",
    "description": "As `-o json` shows errors of the command line.",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["id", "message"],
            "properties": {
                "id": {"type": "string", "description": "Stable; see the reference of errors."},
                "message": {"type": "string"},
                "place": {"type": ["object", "null"]},
                "found": {"type": ["string", "null"]},
                "expected": {"type": ["string", "null"]},
                "hint": {"type": ["string", "null"]},
            },
        }
    },
}
_EVERYWHERE = (400, 401, 404, 405, 408, 409, 413, 503)


def openapi(version: str) -> dict[str, Any]:
    """Return the document (OpenAPI 3.1)."""
    schemas = Schemas()
    schemas.named["Error"] = _ERROR
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(PREFIX + route.path, {})[route.verb.lower()] = _operation(route, schemas)
    responses = {
        str(status): {
            "description": text,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status, text in STATUSES.items()
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "nm",
            "version": version,
            "description": f"The controller of one lab. Events come over the websocket `{STREAM}?after=N`.",
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.named.items())),
            "responses": responses,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, schemas: Schemas) -> dict[str, Any]:
    hints = hints_of(route.message)
    names = re.findall(r"{(\w+)}", route.path)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": _field(route, name, hints, schemas)}
        for name in names
    ]
    required = _required(route)
    parameters += [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": _field(route, name, hints, schemas),
        }
        for name in route.query
    ]
    answer = {} if route.answer.kind is Nothing else schemas.of(route.answer.kind)
    operation: dict[str, Any] = {
        "operationId": f"{route.verb.lower()}{_words(route.path)}",
        "summary": route.summary,
        "responses": {
            "200": {"description": "Done.", "content": {"application/json": {"schema": answer}}},
            **{str(each): {"$ref": f"#/components/responses/{each}"} for each in _EVERYWHERE},
        },
    }
    if parameters:
        operation["parameters"] = parameters
    if route.body:
        properties = {name: _field(route, name, hints, schemas) for name in route.body}
        body: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        body_required = [name for name in route.body if name in required]
        operation["requestBody"] = {
            "required": bool(body_required),
            "content": {"application/json": {"schema": {**body, "required": body_required}}},
        }
    return operation


def _field(route: Route, name: str, hints: dict[str, Any], schemas: Schemas) -> dict[str, Any]:
    if name in route.words:
        return {"type": "string", "enum": list(route.words[name])}
    return schemas.of(route.answer.params.get(name, hints.get(name)))


def _required(route: Route) -> set[str]:
    """Return the fields of a route's message that have no default, and those that the row requires."""
    missing = dataclasses.MISSING
    fields = dataclasses.fields(route.message)
    stated = {each.name for each in fields if each.default is each.default_factory is missing}
    return stated | set(route.required)


def _words(path: str) -> str:
    return "".join(part.capitalize() for part in re.findall(r"[a-z]+", path))
