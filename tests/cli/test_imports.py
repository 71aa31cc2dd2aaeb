"""Test `nm import` as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Nm
from tests.importers import samples

FILES = {
    "graphml": samples.GRAPHML,
    "csv": samples.CSV,
    "containerlab": samples.CONTAINERLAB,
    "netlab": samples.NETLAB,
    "compose": samples.COMPOSE,
}


@pytest.mark.parametrize("format", FILES)
def test_what_is_imported_is_valid_and_drawn(format: str, nm: Nm, tmp_path: Path) -> None:
    file, made = tmp_path / "file", tmp_path / "made.yaml"
    file.write_text(FILES[format])
    # What the Compose file names; imported or not, a volume and a Dockerfile that are missing are errors.
    (tmp_path / "html").mkdir()
    (tmp_path / "Dockerfile").touch()
    said = nm("import", format, file, "-o", made)
    assert (said.code, said.out) == (0, "")
    assert f"wrote {made}" in said.err
    assert nm("validate", made).code == 0
    assert "<svg" in nm("graph", made).out


def test_what_was_not_carried_over_is_said_and_stands_in_the_file(nm: Nm, tmp_path: Path) -> None:
    file = tmp_path / "x.clab.yml"
    file.write_text(samples.CONTAINERLAB)
    said = nm("import", "containerlab", file)
    assert said.code == 0
    assert "not carried over: `mgmt` of the file\n" in said.err
    assert "#   - `mgmt` of the file\n" in said.out


@pytest.mark.parametrize(("format", "code"), [("containerlab", 3), ("csv", 0)])
def test_strict_makes_a_difference_only_where_something_was_not_carried_over(
    format: str, code: int, nm: Nm, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text(FILES[format])
    said = nm("import", format, file, "--strict", "-o", tmp_path / "made.yaml")
    assert said.code == code
    assert (tmp_path / "made.yaml").is_file()


def test_a_bad_file_is_an_error_with_its_place_and_nothing_is_written(nm: Nm, tmp_path: Path) -> None:
    file, made = tmp_path / "links.csv", tmp_path / "made.yaml"
    file.write_text("a,b,rate\n1,2,fast\n")
    said = nm("import", "csv", file, "-o", made)
    assert said.code == 2
    assert f"{file}:2:5  rate is `fast`" in said.err
    assert "nothing was written  [import.invalid]" in said.err
    assert not made.exists()


def test_topology_import_is_the_same_command(nm: Nm, tmp_path: Path) -> None:
    file = tmp_path / "links.csv"
    file.write_text(samples.CSV)
    first, second = (nm(*words, "import", "csv", file, "--name", "x") for words in ([], ["topology"]))
    assert first.code == second.code == 0
    assert first.out == second.out and "name: x\n" in first.out


def test_generated_shapes_are_written_with_their_parameters(nm: Nm) -> None:
    assert "{type: dumbbell, left: 2, right: 3}" in nm("generate", "dumbbell", "--left", 2, "--right", 3).out
    said = nm("generate", "waxman", "--n-nodes", 9, "--alpha", 0.3, "--seed", 5)
    assert "alpha: 0.3" in said.out and "seed: 5\n" in said.out
    assert "hosts: 4" in nm("generate", "clos", "--leaves", 2, "--spines", 2, "--hosts", 4).out
    assert "m: 3" in nm("generate", "barabasi_albert", "--n-nodes", 9, "--m", 3).out
    assert nm("generate", "barabasi_albert", "--n-nodes", 3, "--m", 3).code == 2
