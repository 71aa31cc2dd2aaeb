"""The two ends of a link that is measured: run a program at either, and change the link."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Protocol

from orchestrator.deploy.state import Backend
from orchestrator.errors import RunFailed
from orchestrator.impairment import LinkSpec
from orchestrator.lab import Lab
from orchestrator.topology import generate

__all__ = ["End", "Ends", "LabEnds", "NotApplicable", "lab_ends"]

End = Literal["sender", "receiver"]


class NotApplicable(Exception):
    """This kind of link cannot do what a row requests; the text says why."""


class Ends(Protocol):
    """A link to measure, with the programs at its ends."""

    @property
    def receiver_address(self) -> str:
        """The address to which the sender sends."""
        ...

    def shape(self, spec: Mapping[str, Any]) -> None:
        """Make the link do this, in the fields of `LinkSpec`; an empty one does nothing to packets.

        Raises:
            NotApplicable: It cannot.
        """
        ...

    def python(self, end: End, source: str, words: list[str], timeout_s: float) -> str:
        """Run a Python program at one end, with its source on standard input; return what it prints.

        Raises:
            RunFailed: It ended with an error, or not in time.
        """
        ...


class LabEnds:
    """The link of a lab of two nodes."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        # A container has a Python of its own; a native node is in this machine's files.
        self._python = "python3" if lab.backend == "docker" else sys.executable

    @property
    def receiver_address(self) -> str:
        """The second node's."""
        return self._lab.node(2).address

    def shape(self, spec: Mapping[str, Any]) -> None:
        """Change the packets from the first node to the second; the way back stays as it is."""
        unknown = spec.keys() - {each.name for each in fields(LinkSpec)}
        if unknown:
            raise NotApplicable(f"a link has no {', '.join(sorted(unknown))}")
        self._lab.set_link(1, 2, LinkSpec(**spec), direction="forward", merge=False)

    def python(self, end: End, source: str, words: list[str], timeout_s: float) -> str:
        """Run a program in one of the nodes, as `nm exec` does."""
        node = self._lab.node(1 if end == "sender" else 2)
        done = node.run([self._python, "-I", "-", *words], stdin=source.encode(), timeout=timeout_s)
        if done.exit_code:
            said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
            raise RunFailed(f"the {end} of {words[1]} ended with exit code {done.exit_code}: {said}")
        return done.stdout


@contextmanager
def lab_ends(backend: Backend, *, name: str | None = None, seed: int = 7) -> Iterator[LabEnds]:
    """Bring up two nodes with a link, and take them down at the end, whatever happens.

    Raises:
        NmError: The lab does not come up.
    """
    text = generate("line", n_nodes=2, seed=seed, name=name or f"fidelity-{os.getpid()}")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "fidelity.yaml")
        file.write_text(text, encoding="utf-8")
        with Lab.up(file, backend=backend) as lab:
            yield LabEnds(lab)
