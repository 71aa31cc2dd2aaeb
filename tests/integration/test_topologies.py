"""Test every generator's topology as a lab, all at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

from orchestrator.errors import NmError
from orchestrator.lab import Lab
from orchestrator.testing.leftovers import leftovers
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Nm
from tests.integration.services import SHAPES, assert_shortest_paths_to, need, shape
from tests.integration.test_transfers import assert_all_exact, run, transfer

T = TypeVar("T")


def test_all_shapes_beside_each_other(labs: Labs, tmp_path: Path) -> None:
    """The same addresses in eight networks at once: nobody hears of the others, whoever goes away."""
    need("ping")
    names = list(SHAPES)
    made = at_once([partial(labs.up, shape(name)) for name in names])
    running = dict(zip(names, made, strict=True))
    assert sorted(each.lab for each in Lab.list(home=labs.home)) == sorted(lab.name for lab in made)
    at_once([partial(transfers_in, running[name], tmp_path / name) for name in names])
    for name in names:
        running.pop(name).down()
        for lab in running.values():
            assert lab.status().state == "ready"
    assert leftovers(labs.home) == []


def test_starts_of_one_name_at_one_moment(nm: Nm, labs: Labs) -> None:
    """From the command line and from threads of one program: one makes the lab, the others are told."""
    commands = [nm.start("up", RING, "--backend", "native", "-o", "json") for _ in range(3)]
    attempts = at_once([lambda: attempt(lambda: labs.up(RING)) for _ in range(3)])
    said = [(process, *process.communicate(timeout=90)) for process in commands]
    for process, out, err in said:
        if process.returncode == 0:
            assert json.loads(out)["state"] == "ready"
        else:
            assert process.returncode == 5
            assert "is busy" in json.loads(err.splitlines()[-1])["error"]["message"]
    refusals = [each for each in attempts if isinstance(each, NmError)]
    assert all("is busy" in each.message for each in refusals)
    assert len(refusals) < len(attempts) or any(process.returncode == 0 for process in commands)
    assert [each.state for each in Lab.list(home=labs.home)] == ["ready"]
    assert Lab.attach("ring", home=labs.home).node(1).run(["ping", "-c", "1", "-W", "5", "10.0.0.3"]).ok


def test_start_and_end_at_one_moment(nm: Nm, labs: Labs) -> None:
    """Whoever comes first, each says what it did, and what is left is a whole lab or none."""
    for _ in range(3):
        up, down = nm.start("up", RING, "--backend", "native"), nm.start("down", "-n", "ring")
        said = {process: process.communicate(timeout=90)[1] for process in (up, down)}
        assert up.returncode in (0, 5) and down.returncode in (0, 5), said
        for process in (up, down):
            assert process.returncode == 0 or "is busy" in said[process]
        assert [each.state for each in Lab.list(home=labs.home)] in ([], ["ready"])


def transfers_in(lab: Lab, folder: Path) -> None:
    """Send something to everybody, and see that it is this lab's own."""
    others = [node.id for node in lab.nodes if node.id != 1]
    rows = run(lab, [[transfer("g", 1, others, 1_000_000)]], folder)
    assert_all_exact(rows, transfers=1, receivers=len(others))
    assert_shortest_paths_to(lab, 1)


def attempt(what: Callable[[], T]) -> T | NmError:
    """Return what comes of it, be it an error that a user may see."""
    try:
        return what()
    except NmError as error:
        return error


def at_once(work: list[Callable[[], T]]) -> list[T]:
    """Do everything at the same time; return what came of each, in order."""
    with ThreadPoolExecutor(len(work)) as pool:
        return [each.result() for each in [pool.submit(one) for one in work]]
