"""Test names with path separators and shell syntax in every argument of `nm`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.testing.plugin import Labs
from tests.integration.conftest import RING, Here, Nm
from tests.integration.waiting import run_in

NASTY = [
    "../x",
    "..",
    ".",
    "a/b",
    "/etc",
    "a;reboot",
    "$(id)",
    "a'--",
    'a"b',
    "a\nb",
    "Ä",
    "{{ 7*7 }}",
    "-x",
    "a" * 41,
]


@pytest.mark.parametrize("name", NASTY)
def test_no_lab_is_called_so(here: Here, nm_home: Home, tmp_path: Path, name: str) -> None:
    before = sorted(path for path in tmp_path.rglob("*") if nm_home.path not in (path, *path.parents))
    for words in (("up", RING, "--backend", "native"), ("down",), ("status",), ("exec", "1")):
        tail = ("--", "true") if words[0] == "exec" else ()
        said = here(*words, f"--lab={name}", "-o", "json", *tail)
        assert said.code == 2, (words, said.err)
        assert said.error["id"] == "lab.bad-name"
    after = sorted(path for path in tmp_path.rglob("*") if nm_home.path not in (path, *path.parents))
    assert before == after
    assert not list(nm_home.path.rglob("labs/*"))


@pytest.mark.parametrize("name", ["../x", "/tmp/x", "a b", "A", "", ".", "a;b"])
def test_no_scenario_is_called_so(here: Here, tmp_path: Path, name: str) -> None:
    said = here("new", "scenario", "--", name)
    assert said.code == 2, said.err
    assert list(tmp_path.iterdir()) == []


def test_what_a_user_gives_a_run_comes_out_as_it_went_in(labs: Labs, nm: Nm, tmp_path: Path) -> None:
    """A parameter goes through JSON, MessagePack, SQL and a results folder."""
    labs.up(RING)
    text = "'); DROP TABLE runs; -- $(reboot) `id` {{ 7*7 }} \"\\ \x1b[31m ../../x 😀"
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "scenario.yaml").write_text(
        "name: mine\nsummary: a test\nparams:\n  text: {type: str, default: '', help: anything}\n"
        "roles:\n  sayer: {nodes: all}\n"
        "checks:\n  - {name: the same, rows: sayer, where: 'text == said', count: all}\n"
    )
    (folder / "roles.py").write_text(
        "def sayer(ctx):\n"
        "    ctx.publish(ctx.params.text + str(ctx.node), ctx.params.text)\n"
        "    said = ctx.lookup(ctx.params.text + str(ctx.node))\n"
        "    ctx.log(ctx.params.text)\n"
        "    ctx.report(text=ctx.params.text, said=said)\n"
    )
    out = tmp_path / "out"
    said = nm("run", "scenario", folder, "-p", f"text={text}", "--results", out, "-o", "json")
    assert said.code == 0, said.err + said.out
    assert {row["text"] for row in said.json["rows"]} == {text}
    assert {row["text"] for row in json.loads((run_in(out) / "rows.json").read_text())} == {text}
    assert nm("status", "-o", "json").json["state"] == "ready"


def test_what_a_command_is_given_is_not_read_by_a_shell(labs: Labs, nm: Nm) -> None:
    labs.up(RING)
    words = ["$(id)", "a b", "'", '"', ";", "|", "*", "\\", "", "--", "-n"]
    said = nm("exec", "1", "--", "printf", "[%s]", *words)
    assert said.code == 0, said.err
    assert said.out == "".join(f"[{word}]" for word in words)
