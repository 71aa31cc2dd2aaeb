"""Export the topology language as JSON Schema, for editors."""

from __future__ import annotations

import json
from typing import Any

from orchestrator.topology.language import ROOT

__all__ = ["schema", "text"]


def schema() -> dict[str, Any]:
    """Return the schema; every object refuses keys that it does not list."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "nm topology",
        "description": "A lab of emulated nodes and links; see docs/reference/topology.md.",
        **ROOT.schema(),
    }


def text() -> str:
    """Return the schema as it is committed in `topologies/schema/`."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"
