"""Declare the keys of a file format once: strict reading, JSON Schema and reference documentation.

A file format is a `Table` of `Field`s. From it come strict reading (unknown keys, wrong types and missing
keys are recorded with their places and the nearest known name), the JSON Schema for editors, and the
reference pages.
"""

from __future__ import annotations

from orchestrator.fields.kinds import (
    NONE,
    ROUTE_WEIGHTS,
    Anything,
    Boolean,
    Choice,
    Integer,
    Kind,
    ListOf,
    MapOf,
    Number,
    OrNone,
    RouteWeight,
    Text,
    Unit,
)
from orchestrator.fields.table import Field, OneOfTables, ShortOrTable, Table

__all__ = [
    "NONE",
    "ROUTE_WEIGHTS",
    "Anything",
    "Boolean",
    "Choice",
    "Field",
    "Integer",
    "Kind",
    "ListOf",
    "MapOf",
    "Number",
    "OneOfTables",
    "OrNone",
    "RouteWeight",
    "ShortOrTable",
    "Table",
    "Text",
    "Unit",
]
