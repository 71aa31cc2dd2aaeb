"""Add and remove nodes and links: `python -m orchestrator.lab.membership_program FOLDER`.

The controller runs this for a request that came by its REST API. The request is one line of JSON on standard
input, with what `do` names and the arguments of the call of `AsyncLab`; the answer is one on standard output:
what was changed, or `{"error": …}` as the command line shows errors.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.errors import NmError
from orchestrator.lab import AsyncLab

__all__ = ["main"]


def main(words: Sequence[str]) -> int:
    """Carry a request out; returns the exit code."""
    (folder,) = words
    try:
        answer = asyncio.run(_carry_out(LabDirectory(Path(folder)), json.loads(sys.stdin.readline())))
    except NmError as error:
        print(json.dumps(error.as_json()))
        return error.exit_code
    print(json.dumps(answer))
    return 0


async def _carry_out(directory: LabDirectory, request: dict[str, Any]) -> dict[str, Any]:
    """Do what a request says, and return what the `Ack` holds."""
    lab = AsyncLab.attach(directory.name, home=Home(directory.home))
    lab.cause = request["cause"]
    match request["do"]:
        case "add node":
            made = await lab.add_node(
                request["node_id"],
                name=request["name"],
                links=request["links"],
                labels=request["labels"],
                external=request["external"],
            )
            return {"node_id": made}
        case "remove node":
            applied = await lab.remove_nodes([request["node_id"]], force=request["force"])
        case "add link":
            applied = await lab.add_link(request["a"], request["b"], **request["values"])
        case _:
            applied = await lab.remove_link(request["a"], request["b"], force=request["force"])
    return {"changes": [each.as_json() for each in applied.changes]}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
