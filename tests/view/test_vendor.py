"""Test that files of others are unchanged."""

import hashlib
from importlib.resources import files

VENDOR = files("orchestrator.view") / "assets" / "vendor"


def test_echarts_is_the_file_that_its_page_names() -> None:
    digest = hashlib.sha256((VENDOR / "echarts.min.js").read_bytes()).hexdigest()
    assert f"`{digest}`" in (VENDOR / "README.md").read_text()
