"""Build a tree of values from YAML text; `document` is imported on first use.

The node agent reads TOML only, and its image has no PyYAML.
"""

from __future__ import annotations

from orchestrator.source.tree import Problems, Value

__all__ = ["parse_yaml"]


def parse_yaml(text: str, file: str, problems: Problems) -> Value | None:
    """Return one YAML document as values, or None after noting why there is none.

    Args:
        text: The document.
        file: The file's name for places.
        problems: Takes what is wrong; duplicate keys and unknown tags are noted and reading goes on.
    """
    from orchestrator.source.document import parse  # imports PyYAML

    return parse(text, file, problems)
