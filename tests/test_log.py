"""Test the log formats."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator

import pytest

from orchestrator import log


@pytest.fixture(autouse=True)
def _restore_root() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_text_has_the_level_the_event_and_the_fields() -> None:
    stream = io.StringIO()
    log.setup(stream=stream)
    log.get("x", run="7f3c").info("link changed", link="a→b", delay_us=20000, cause="by hand")
    assert stream.getvalue() == 'info  link changed  run=7f3c link=a→b delay_us=20000 cause="by hand"\n'


def test_a_per_cent_sign_in_an_event_is_just_that() -> None:
    stream = io.StringIO()
    log.setup(stream=stream)
    log.get("x").warning("5 % lost")
    assert stream.getvalue() == "warning  5 % lost\n"


def test_json_is_one_object_a_line() -> None:
    stream = io.StringIO()
    log.setup(style="json", stream=stream)
    logger = log.get("x").bind(node=3)
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("role raised", role="worker")
    line = json.loads(stream.getvalue())
    assert (line["level"], line["event"], line["node"], line["role"]) == ("error", "role raised", 3, "worker")
    assert "ValueError: no" in line["traceback"]
    assert line["time"].endswith("+00:00")


def test_what_is_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    log.setup("warning", stream=stream)
    log.get("x").info("nobody reads this")
    log.get("x").debug("nor this")
    assert stream.getvalue() == ""


def test_without_the_standard_library_lines_are_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        log.setup_plain("info")
        logger = log.get("x", run="7f3c")
        logger.debug("not shown")
        logger.info("link changed", link="a→b", cause="by hand")
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("failed")
    finally:
        log.setup()
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == 'info  link changed  run=7f3c link=a→b cause="by hand"'
    assert lines[1] == "error  failed  run=7f3c"
    assert lines[2].startswith("Traceback") and lines[-1] == "ValueError: no"


@pytest.mark.parametrize("before", ["", "import sys; sys.stderr.close()"])
def test_a_line_that_cannot_be_written_is_lost_and_the_program_continues(before: str) -> None:
    program = f"""
from orchestrator import log
{before}
log.setup_plain("info")
for _ in range(2):
    log.get("x").info("link changed", cause="x" * 10_000)
print("continued", flush=True)
"""
    with open("/dev/full", "wb") as full:  # noqa: PTH123  # a device
        done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=full)
    assert done.stdout == b"continued\n"
