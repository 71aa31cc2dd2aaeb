"""Keep labs up between tests: one for each topology and set of options, reset before it is used again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestrator import resources, topology
from orchestrator.deploy import node_states
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.state import Backend
from orchestrator.errors import NmError, UsageError
from orchestrator.lab import Lab, loop_thread
from orchestrator.lab.down import take_all_down
from orchestrator.testing.leftovers import leftovers
from orchestrator.topology import Topology

__all__ = ["LabPool", "reset"]

Source = str | Path | Topology
_NAME_LIMIT = 40
"""How long the name of a lab can be."""


class LabPool:
    """The labs of one process that runs tests.

    Args:
        home: Where they live.
        worker: The name of the process; part of the names of its labs, which may meet those of another
            process in a Docker engine.
        backend: What carries labs that name no backend; chosen by the machine unless given.
        kept: How many labs stay up; the one that was not used for the longest time goes first.
        up: Brings a lab up.
    """

    def __init__(
        self,
        home: Path,
        *,
        worker: str,
        backend: Backend | None = None,
        kept: int = 2,
        up: Callable[..., Lab] = Lab.up,
    ) -> None:
        self.home = Home(home)
        self._worker, self._backend, self._kept, self._up = worker, backend, max(1, kept), up
        self._labs: dict[str, Lab] = {}
        self._engine = False
        self._count = 0

    def get(self, beside: Path, source: Source, *, backend: Backend | None = None, **options: Any) -> Lab:
        """Return the lab of a topology, as it was declared.

        Args:
            beside: The folder in which a file is looked for first; the shipped ones come after it.
            source: A file, a topology, or the text of one.
            backend: What carries it.
            options: Those of `Lab.up`.

        Raises:
            UsageError: `overrides` is given with a topology that was read already.
            NmError: It cannot be brought up.
        """
        backend = backend or self._backend
        overrides = options.pop("overrides", ())
        if overrides and isinstance(source, Topology):
            raise UsageError(
                "`overrides` changes the text of a topology, and this one was read already",
                expected="a file or a text",
                hint="give `overrides` to `topology.load`",
            )
        meant = source if isinstance(source, Topology) else _load(beside, source, overrides)
        key = repr((topology.dump(meant), backend, sorted(options.items())))
        lab = self._labs.pop(key, None)
        if lab is not None and not _was_reset(lab):
            self._down(lab)
            lab = None
        if lab is None:
            while len(self._labs) >= self._kept:
                self._down(self._labs.pop(next(iter(self._labs))))
            lab = self._start(meant, backend, options)
        self._labs[key] = lab  # at the end: the first is the one that was not used for the longest time
        return lab

    def end(self) -> None:
        """Take all labs down and prove that nothing is left of them."""
        self._labs.clear()
        loop_thread.call(take_all_down(self.home, lambda _what: None))
        assert leftovers(self.home, engine=self._engine) == []

    def _start(self, meant: Topology, backend: Backend | None, options: dict[str, Any]) -> Lab:
        self._count += 1
        tail = f"-{self._worker}-{self._count}"
        name = options.pop("name", None) or meant.name[: _NAME_LIMIT - len(tail)].rstrip("-") + tail
        lab = self._up(meant, name=name, backend=backend, home=self.home, **options)
        self._engine = self._engine or lab.backend == "docker"
        return lab

    def _down(self, lab: Lab) -> None:
        try:
            lab.down()
        except NmError:  # it is gone, or what is left of it is found in the end
            return


def reset(lab: Lab) -> None:
    """Make a lab what it was when it came up: links as declared, no partition, all nodes running.

    Raises:
        NmError: It cannot be made so.
    """
    for node, state in node_states.read(LabDirectory(lab.directory)).items():
        (lab.node(node).unpause if state == "paused" else lab.node(node).start)()
    lab.heal()
    lab.reset_links()
    status = lab.status()
    if status.state != "ready":
        raise UsageError(f"lab {lab.name} is {status.state}: {'; '.join(status.problems)}")


def _was_reset(lab: Lab) -> bool:
    try:
        reset(lab)
    except NmError:
        return False
    return True


def _load(beside: Path, source: str | Path, overrides: Any) -> Topology:
    """Read a topology: the text of one, or a file beside the test, below the working folder, or shipped."""
    if isinstance(source, str) and "\n" in source:
        return topology.loads(source, "test.yaml", overrides)
    folders = (beside, Path.cwd(), resources.path("topologies"))
    found = next((path for folder in folders if (path := folder / source).is_file()), None)
    return topology.load(found if found is not None else source, overrides)
