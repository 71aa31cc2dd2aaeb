"""The build backend: maturin, with the shared files added to the wheel.

Topologies, scenarios, compose templates and image folders stand at the top of the repository, where people
look for them. In a wheel they belong under `share/nm` of the installation prefix. maturin takes such files
only from a folder laid out like the wheel, so this backend lays one out for the moment of the build.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import maturin

# The hooks that need nothing of us.
from maturin import (
    build_editable,
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

ROOT = Path(__file__).resolve().parent.parent
SHARED = ("compose", "images", "scenarios", "topologies")
# Where maturin looks for it: the module's name with `.data`, beside pyproject.toml.
LAYOUT = ROOT / "nextmini_py._native.data"


def build_wheel(
    wheel_directory: str,
    config_settings: Mapping[str, Any] | None = None,
    metadata_directory: str | None = None,
) -> str:
    """Build the wheel with the shared files in it."""
    with laid_out():
        return str(maturin.build_wheel(wheel_directory, config_settings, metadata_directory))


@contextmanager
def laid_out() -> Iterator[None]:
    """Keep a copy of the shared files in the shape of the wheel while the block runs."""
    shutil.rmtree(LAYOUT, ignore_errors=True)
    try:
        for name in SHARED:
            target = LAYOUT / "data" / "share" / "nm" / name
            shutil.copytree(ROOT / name, target, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        yield
    finally:
        shutil.rmtree(LAYOUT, ignore_errors=True)
