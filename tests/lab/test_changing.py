"""Test changes of a lab that is up, before anything of it is touched."""

from __future__ import annotations

import pytest

from orchestrator import topology
from orchestrator.errors import TopologyInvalid
from orchestrator.lab import AsyncLab

from .conftest import MakeLab


async def test_services_are_checked_for_the_lab_s_backend_before_they_are_applied(make_lab: MakeLab) -> None:
    lab = AsyncLab(*make_lab())
    meant = topology.loads("name: ring\nn_nodes: 1\nservices: {s: {nodes: 1, image: i, tmpfs: /t}}\n")
    with pytest.raises(TopologyInvalid) as refused:
        await lab.apply(meant)
    assert {each.id for each in refused.value.problems} == {
        "topology.service-key",
        "topology.service-command",
    }
