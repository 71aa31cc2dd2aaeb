"""YAML and TOML in which every value knows its line and column.

Both readers give the same thing: a tree of `Value`. Nothing is interpreted here beyond numbers, text and
truth; what a key means is the business of the room that asked. Everything that is wrong is collected in a
`Problems`, so that a person sees all of it at once.

YAML is read as its version 1.2 core says: `yes`, `on` and `1:30` are text. Tags, duplicate keys and files
beyond `LARGEST_FILE` are refused; anchors and `<<` merges work, as long as they neither loop nor explode.
"""

from __future__ import annotations

from orchestrator.source.files import LARGEST_FILE, named, read_text
from orchestrator.source.override import apply_override
from orchestrator.source.toml import parse_toml
from orchestrator.source.tree import Problems, Value
from orchestrator.source.yaml import parse_yaml

__all__ = [
    "LARGEST_FILE",
    "Problems",
    "Value",
    "apply_override",
    "named",
    "parse_toml",
    "parse_yaml",
    "read_text",
]
