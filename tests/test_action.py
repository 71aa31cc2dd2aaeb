"""Test the steps of the GitHub Action with a program that only prints."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scripts.action_summary import summary
from tests.action_runner import ROOT, ActionRun, run_action

RUN: dict[str, Any] = {
    "run": "hello-123abc",
    "scenario": "hello",
    "backend": "native",
    "seed": 7,
    "verdict": "fail",
    "seconds": 1.25,
    "reason": "",
    "failures": [],
    "checks": [{"name": "all | complete", "ok": False, "detail": "1 of 2 rows; <b>state</b> is 'left'"}],
    "fidelity": {"verdict": "kept"},
    "rows": [{"node": 1, "role": "worker", "mb_per_s": 1.23456789}, {"node": 2, "state": "left"}],
}
FAKE = """\
#!/bin/bash
echo "$0 $*" >>"$CALLED"
case "$1" in
    version) echo nm 0 ;;
    down) ;;
    *) cat "$ANSWER"; echo "what it said" >&2; exit "$CODE" ;;
esac
"""

Act = Callable[..., ActionRun]


@pytest.fixture
def called(tmp_path: Path) -> Path:
    return tmp_path / "called"


@pytest.fixture
def act(tmp_path: Path, called: Path, monkeypatch: pytest.MonkeyPatch) -> Act:
    """Run the action with programs that note how they are called, and answer as told."""
    programs = tmp_path / "programs"
    programs.mkdir()
    # `python3 -m venv FOLDER` makes the folder with what is needed here, and pip does nothing.
    (programs / "fake-python").write_text(
        '#!/bin/bash\nmkdir -p "$3/bin"; cp "${0%/*}"/{nm,nextmini,python} "$3/bin"\n'
    )
    (programs / "python").write_text('#!/bin/bash\necho "python $*" >>"$CALLED"\n')
    for name in ("nm", "nextmini"):
        (programs / name).write_text(FAKE)
    (programs / "docker").write_text(
        '#!/bin/bash\necho "/bin/docker $*" >>"$CALLED"; exit "${DOCKER_CODE:-0}"\n'
    )
    (programs / "make").write_text('#!/bin/bash\necho "/bin/make $*" >>"$CALLED"\n')
    for path in programs.iterdir():
        path.chmod(0o755)
    workspace = tmp_path / "workspace"
    workspace.mkdir()

    def run(answer: object = RUN, code: int = 0, **inputs: str) -> ActionRun:
        (tmp_path / "answer").write_text(answer if isinstance(answer, str) else json.dumps(answer, indent=2))
        monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
        monkeypatch.setenv("DOCKER_CODE", inputs.pop("DOCKER_CODE", "0"))
        environment = {"CALLED": str(called), "ANSWER": str(tmp_path / "answer"), "CODE": str(code)}
        return run_action(workspace, {"python": str(programs / "fake-python"), **inputs}, environment)

    return run


def test_a_scenario_is_run_with_its_inputs(act: Act, called: Path) -> None:
    done = act(
        code=1,
        scenario="./my $(touch x)",
        params="size=1 MB\n\nmode=a b\n",
        topology="t.yaml",
        install="x.whl",
    )
    assert done.codes == {
        "Prepare the runner": 0,
        "Install nm": 0,
        "Run": 1,
        "Write the summary": 0,
        "Take labs down": 0,
    }
    assert done.outputs == {"verdict": "fail", "results": "results"}
    assert done.used == {
        "actions/upload-artifact@v4": {
            "name": "nm-results",
            "path": "results",
            "if-no-files-found": "ignore",
        }
    }
    programs = str(called.parent / "runner" / "nm-venv" / "bin")
    assert called.read_text().replace(f"{programs}/", "").splitlines() == [
        "python -m pip install -q --disable-pip-version-check x.whl",
        "nm version",
        "nm run scenario ./my $(touch x) --results results --topology t.yaml --param size=1 MB "
        "--param mode=a b --backend native -o json",
        "nextmini down --all",
    ]
    assert done.summary.startswith("## hello: fail\n")


@pytest.mark.parametrize(("has_images", "built"), [("0", 0), ("1", 1)])
def test_images_are_built_where_the_engine_has_none(
    act: Act, called: Path, has_images: str, built: int
) -> None:
    done = act(scenario="hello", backend="docker", DOCKER_CODE=has_images)
    assert done.codes["Install nm"] == 0
    lines = [line.rpartition("/bin/")[2] for line in called.read_text().splitlines()]
    assert "docker image inspect nm-node:0 nm-controller:0 nm-postgres:0" in lines
    assert sum(line.startswith("make -C ") and line.endswith("/.. images") for line in lines) == built


def test_a_lab_that_does_not_start_is_an_error_and_is_taken_down(act: Act, called: Path) -> None:
    done = act(answer="", code=5, test="ring.yaml", artifact="")
    assert (done.codes["Run"], done.codes["Take labs down"]) == (5, 0)
    assert done.outputs["verdict"] == "error"
    assert done.used == {}
    assert done.summary == "## nm: error\n\n~~~~text\nwhat it said\n~~~~\n"
    assert called.read_text().splitlines()[-1].endswith("nextmini down --all")


@pytest.mark.parametrize(
    ("answer", "code", "verdict"), [(RUN, 0, "pass"), ({**RUN, "verdict": "error"}, 1, "error")]
)
def test_the_verdict_is_an_output(act: Act, answer: object, code: int, verdict: str) -> None:
    assert act(answer=answer, code=code, scenario="hello").outputs["verdict"] == verdict


@pytest.mark.parametrize("inputs", [{}, {"scenario": "a", "test": "b"}])
def test_one_of_two_inputs_is_needed(act: Act, inputs: dict[str, str]) -> None:
    done = act(**inputs)
    assert done.codes["Run"] == 2
    assert "::error::give one of the inputs `scenario` and `test`" in done.said
    assert "Write the summary" not in done.codes


def test_an_installation_that_fails_ends_the_job_with_nothing_to_take_down(act: Act) -> None:
    done = act(scenario="hello", python="/bin/false")
    assert done.codes == {"Prepare the runner": 0, "Install nm": 1, "Take labs down": 0}


def test_the_summary_shows_checks_and_rows_as_plain_text(tmp_path: Path) -> None:
    (tmp_path / "run-output.json").write_text(json.dumps(RUN))
    assert summary(tmp_path) == (
        "## hello: fail\n\n"
        "Run `hello-123abc` on the native backend, seed 7, 1.2 s.\n\n"
        "|  | Check | What was seen |\n| --- | --- | --- |\n"
        "| ❌ | all \\| complete | 1 of 2 rows; &lt;b&gt;state&lt;/b&gt; is 'left' |\n\n"
        "Fidelity of the links: kept.\n\n"
        "<details>\n<summary>2 rows</summary>\n\n"
        "| node | role | mb_per_s | state |\n| --- | --- | --- | --- |\n"
        "| 1 | worker | 1.23457 |  |\n| 2 |  |  | left |\n\n"
        "</details>\n"
    )


def test_the_script_is_bash_and_refuses_other_steps() -> None:
    script = ROOT / "scripts" / "action.sh"
    done = subprocess.run(
        ["bash", str(script), "other"],
        capture_output=True,
        text=True,
        env={**os.environ, "RUNNER_TEMP": "/tmp"},
    )
    assert done.returncode == 2 and "usage:" in done.stderr
