"""Test the choice of another subnet after a conflict."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

import pytest

from orchestrator import topology
from orchestrator.deploy.docker.host import SubnetTaken
from orchestrator.deploy.home import Home, LabDirectory
from orchestrator.deploy.host import Leftover, Progress
from orchestrator.deploy.state import LabState
from orchestrator.lab import down, up
from orchestrator.lab.up import UpOptions, bring_up

IN_THE_WAY = "172.31.0.0/16"
RING = f"name: ring\nsubnet: {IN_THE_WAY}\ntopology: {{type: ring, n_nodes: 4}}\n"


class TakenSubnetsHost:
    """An engine where every subnet is taken by the time that it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.stops = 0

    async def start(self, directory: LabDirectory, state: LabState, progress: Progress) -> LabState:
        assert state.subnet is not None
        self.asked.append(state.subnet)
        raise SubnetTaken(f"the subnet {state.subnet} is in use", hint="try again")

    async def stop(self, directory: LabDirectory, progress: Progress) -> None:
        self.stops += 1

    async def leftovers(self, directory: LabDirectory) -> Sequence[Leftover]:
        return []


async def test_a_subnet_that_is_in_use_is_named_after_three_attempts(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fit(*_: object, **__: object) -> None: ...

    host = TakenSubnetsHost()
    for module in (up, down):
        monkeypatch.setattr(module, "host_for", lambda _backend: host)
    monkeypatch.setattr(up, "require_fit", fit)
    with pytest.raises(SubnetTaken) as caught:
        meant = topology.loads(RING, "ring.yaml")
        await bring_up(home, meant, UpOptions(backend="docker"), lambda _what: None)
    assert (caught.value.id, caught.value.exit_code) == ("docker.subnet-taken", 5)
    assert len(host.asked) == 3 and host.asked[-1] in caught.value.message
    # Never the one that the nodes themselves have: it would be refused by our own check.
    assert not any(ip_network(each).overlaps(ip_network(IN_THE_WAY)) for each in host.asked)
    assert not home.lab("ring").exists()
