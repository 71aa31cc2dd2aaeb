"""Test how a lab's topology gets back its shape."""

from __future__ import annotations

from pathlib import Path

from orchestrator import topology
from orchestrator.view.picture import positions, with_generator

RING = "name: r\ntopology: {type: ring, n_nodes: 4}\n"


def test_a_lab_is_placed_by_the_generator_of_its_file(tmp_path: Path) -> None:
    file = tmp_path / "ring.yaml"
    file.write_text(RING)
    kept = topology.loads(topology.dump(topology.loads(RING)))
    assert kept.generator is None
    found = with_generator(kept, str(file))
    assert found.generator is not None
    assert positions(found)["1"][0] == 0.0, "the first node of a ring is at the top"


def test_a_file_that_is_gone_or_has_other_links_is_left_alone(tmp_path: Path) -> None:
    kept = topology.loads(topology.dump(topology.loads(RING)))
    file = tmp_path / "ring.yaml"
    assert with_generator(kept, str(file)) is kept
    file.write_text("name: r\ntopology: {type: ring, n_nodes: 5}\n")
    assert with_generator(kept, str(file)) is kept
    file.write_text("{")
    assert with_generator(kept, str(file)) is kept
