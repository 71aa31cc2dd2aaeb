"""Run the steps of action.yml as GitHub's runner does, but for those that use another action."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")


@dataclass
class ActionRun:
    """What came of the steps.

    Attributes:
        codes: The exit code of each step that ran, by its name.
        used: The actions that would have been used, with their inputs.
        outputs: The outputs of the action.
        summary: The summary of the job, Markdown.
        said: What the steps printed, both streams.
    """

    codes: dict[str, int] = field(default_factory=dict)
    used: dict[str, Mapping[str, str]] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    said: str = ""


def run_action(folder: Path, inputs: Mapping[str, str], environment: Mapping[str, str]) -> ActionRun:
    """Run the action in a folder.

    Args:
        folder: The workspace; the runner's own files are beside it.
        inputs: What stands behind `with`.
        environment: Variables of the job.
    """
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert inputs.keys() <= action["inputs"].keys()
    runner = _Runner(
        folder, {**{k: v["default"] for k, v in action["inputs"].items()}, **inputs}, environment
    )
    for step in action["runs"]["steps"]:
        runner.step(step)
    runner.done.outputs = {name: runner.filled(each["value"]) for name, each in action["outputs"].items()}
    return runner.done


class _Runner:
    def __init__(self, folder: Path, inputs: Mapping[str, str], environment: Mapping[str, str]) -> None:
        self._folder, self._temp = folder, folder.parent / "runner"
        self._temp.mkdir()
        self._files = {
            name: self._temp / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_PATH")
        }
        self._environment = dict(environment)
        self._values = {f"inputs.{name}": value for name, value in inputs.items()}
        self._failed = False
        self.done = ActionRun()

    def step(self, step: Mapping[str, Any]) -> None:
        """Run a step, if its condition holds."""
        if not self._holds(step.get("if", "success()")):
            return
        if "uses" in step:
            self.done.used[step["uses"]] = {key: self.filled(value) for key, value in step["with"].items()}
            return
        assert step["shell"] == "bash"
        assert "${{" not in step["run"], "an input in a command could be read as a command"
        for path in self._files.values():
            path.touch()
        script = self._temp / "step.sh"
        script.write_text(step["run"])
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self._folder,
            env={**self._variables(), **{k: self.filled(v) for k, v in step.get("env", {}).items()}},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
        )
        self.done.codes[step["name"]] = done.returncode
        self.done.said += done.stdout
        self.done.summary = self._files["GITHUB_STEP_SUMMARY"].read_text()
        self._failed = self._failed or done.returncode != 0
        for line in self._files["GITHUB_OUTPUT"].read_text().splitlines():
            name, _, value = line.partition("=")
            self._values[f"steps.{step.get('id', '')}.outputs.{name}"] = value
        self._files["GITHUB_OUTPUT"].write_text("")

    def filled(self, text: str) -> str:
        """Put values in for expressions; one that is not there is empty, as it is for the runner."""
        return _EXPRESSION.sub(lambda match: self._values.get(match[1], ""), str(text))

    def _variables(self) -> dict[str, str]:
        added = self._files["GITHUB_PATH"].read_text().split() if self._files["GITHUB_PATH"].exists() else []
        path = ":".join([*reversed(added), os.environ["PATH"]])
        files = {name: str(file) for name, file in self._files.items()}
        known = {"GITHUB_ACTION_PATH": str(ROOT), "RUNNER_TEMP": str(self._temp), "PATH": path}
        return {**os.environ, **self._environment, **known, **files}

    def _holds(self, condition: str) -> bool:
        return all(self._part(part.strip()) for part in condition.split("&&"))

    def _part(self, part: str) -> bool:
        if part == "always()":
            return True
        if part == "success()":
            return not self._failed
        name, equal, text = part.partition(" != ")
        assert equal and text == "''", f"`{part}` is a condition that this runner does not know"
        return self._values.get(name, "") != ""
