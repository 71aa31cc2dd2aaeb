"""Test lab directories and their names."""

from __future__ import annotations

import os
import shutil
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
    lab.create()
    shutil.rmtree(lab.run)
    lab.run.symlink_to("/nowhere")
    assert lab.remove() == []
    assert not lab.path.exists()


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


@pytest.mark.parametrize("kind", ["folder", "file", "link", "link to nothing"])
def test_what_is_not_ours_is_refused_by_name_and_never_removed(tmp_path: Path, kind: str) -> None:
    home = Home(tmp_path / "home")
    lab = home.lab("ring")
    lab.path.parent.mkdir(parents=True)
    mine = tmp_path / "mine"
    mine.mkdir()
    if kind == "folder":
        lab.path.mkdir()
        (lab.path / "thesis.txt").write_text("years of work")
    elif kind == "file":
        lab.path.write_text("years of work")
    else:
        lab.path.symlink_to(mine if kind == "link" else tmp_path / "nowhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(HostNotFit) as caught:
        lab.create()
    assert caught.value.id == "home.name-taken" and str(lab.path) in caught.value.message
    assert not lab.exists() and home.labs() == []
    assert lab.remove() == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_whose_making_was_cut_off_is_ours(tmp_path: Path) -> None:
    lab = Home(tmp_path).lab("ring")
    lab.path.mkdir(parents=True)
    assert lab.exists()
    lab.create()
    assert lab.remove() == [] and not lab.path.exists()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_permissions_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    home = Home(tmp_path / "a" / "b" / "home")
    lab = home.lab("ring")
    old = os.umask(umask)
    try:
        lab.create()
    finally:
        os.umask(old)
    modes = {
        str(path.relative_to(tmp_path)): path.stat().st_mode & 0o777
        for path in (*tmp_path.rglob("*"),)
        if path != tmp_path
    }
    inside = "a/b/home/labs/ring"
    assert modes == {
        "a": 0o711,
        "a/b": 0o711,
        "a/b/home": 0o711,
        "a/b/home/labs": 0o711,
        inside: 0o711,
        f"{inside}/nm-lab": 0o600,
        f"{inside}/run": 0o700,
        f"{inside}/run/links": 0o700,
        f"{inside}/run/share": 0o755,
        f"{inside}/logs": 0o700,
    }
