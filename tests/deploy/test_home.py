"""Labs have a folder each, under names that cannot leave it."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.errors import HostNotFit, UsageError


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", ".", "A", "-a", "a-", "a" * 41, "a b", "a;rm", "é", "a\n"]
)
def test_a_name_that_could_leave_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        Home(tmp_path).lab(name)
    assert caught.value.id == "lab.bad-name"


def test_a_lab_is_private_but_can_be_walked_through(tmp_path: Path) -> None:
    lab = Home(tmp_path / "home").lab("ring")
    lab.create()
    assert lab.path.stat().st_mode & 0o777 == 0o711
    assert lab.run.stat().st_mode & 0o777 == 0o700


def test_removing_a_lab_removes_all_of_it_and_twice_is_once(tmp_path: Path) -> None:
    lab = Home(tmp_path).lab("ring")
    lab.create()
    (lab.run / "node-1.toml").write_text("x")
    assert lab.remove() == []
    assert not lab.exists()
    assert lab.remove() == []


def test_a_half_deleted_lab_can_still_be_removed(tmp_path: Path) -> None:
    lab = Home(tmp_path).lab("ring")
    lab.path.mkdir(parents=True)
    (lab.path / "run").symlink_to("/nowhere")
    assert lab.remove() == []
    assert not lab.exists()


def test_what_is_no_lab_is_not_listed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.lab("ring").create()
    home.lab("line").create()
    (tmp_path / "labs" / "Not A Lab").mkdir()
    (tmp_path / "labs" / "file").write_text("")
    assert [lab.name for lab in home.labs()] == ["line", "ring"]


def test_a_home_that_cannot_be_written_says_which(tmp_path: Path) -> None:
    (tmp_path / "labs").write_text("a file where the folder should be")
    with pytest.raises(HostNotFit) as caught:
        Home(tmp_path).lab("ring").create()
    assert caught.value.id == "home.unwritable"
    assert str(tmp_path) in caught.value.message


def test_the_home_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NM_HOME", str(tmp_path))
    assert Home.default().path == tmp_path
