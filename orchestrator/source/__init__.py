"""Read YAML and TOML with the line and column of every value.

Both readers return a tree of `Value`. Only numbers, text and booleans are interpreted here; the caller knows
what a key means. All problems are collected in a `Problems`, so that the user sees all of them at once.

YAML is read by the core schema of version 1.2: `yes`, `on` and `1:30` are text. Tags, duplicate keys and
files beyond `LARGEST_FILE` are refused; anchors and `<<` merges work, bounded in size and without cycles.
"""

from __future__ import annotations

from orchestrator.source.files import LARGEST_FILE, named, read_stated, read_text
from orchestrator.source.override import apply_override, parse_option
from orchestrator.source.toml import parse_toml
from orchestrator.source.tree import Problems, Value
from orchestrator.source.yaml import parse_yaml

__all__ = [
    "LARGEST_FILE",
    "Problems",
    "Value",
    "apply_override",
    "named",
    "parse_option",
    "parse_toml",
    "parse_yaml",
    "read_stated",
    "read_text",
]
