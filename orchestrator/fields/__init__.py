"""Tables of the keys a file may have: read strictly, and told to editors.

A file format is stated once, as a `Table` of `Field`s. From that one statement come the strict reading
(unknown keys, wrong types and missing keys are noted with their places and the nearest known name), the JSON
Schema that an editor completes from, and the reference in the documentation. They cannot drift apart.
"""

from __future__ import annotations

from orchestrator.fields.kinds import (
    Anything,
    Boolean,
    Choice,
    Integer,
    Kind,
    ListOf,
    MapOf,
    Number,
    OneOf,
    Text,
    Unit,
    UnitOrNone,
)
from orchestrator.fields.table import Field, Table

__all__ = [
    "Anything",
    "Boolean",
    "Choice",
    "Field",
    "Integer",
    "Kind",
    "ListOf",
    "MapOf",
    "Number",
    "OneOf",
    "Table",
    "Text",
    "Unit",
    "UnitOrNone",
]
