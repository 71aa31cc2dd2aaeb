"""Find and read the folders of runs and sweeps, and the archives made of them.

A folder with `run.json` is that of a run, one with `sweep.json` that of a sweep. An archive made by `nm
results export` holds one such folder, and is read as if it were it.
"""

from __future__ import annotations

import json
import lzma
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from orchestrator.errors import HostNotFit, UsageError

__all__ = [
    "ARCHIVES",
    "DONE",
    "FORMAT",
    "LOCK",
    "Bundle",
    "find_bundles",
    "open_bundle",
    "opened",
    "read_rows",
]

FORMAT = 1
"""The version of the layout of a run's and of a sweep's folder, as `format` says in their JSON. A folder
without it was written before it held what a replay needs; it can be shown and compared."""

DONE = "done.json"
"""The file in the folder of a run that says that it is a complete run of a sweep, and which one."""

LOCK = ".lock"
"""The file in the folder of a sweep that is locked by the process that makes its runs."""

ARCHIVES = (".tar.gz", ".tgz", ".zip")
MOST_UNPACKED = 4 * 1024**3
"""Bytes that the files of an archive may have together; a run has some megabytes, with captures more."""

DEPTH = 4
"""How deep below a folder `find_bundles` looks."""

Kind = Literal["run", "sweep"]


@dataclass(frozen=True)
class Bundle:
    """The folder of a run or of a sweep.

    Attributes:
        path: The folder.
        kind: Whether it is a run's or a sweep's.
        document: Its `run.json` or `sweep.json`.
    """

    path: Path
    kind: Kind
    document: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The id of the run or the sweep."""
        return str(self.document.get(self.kind) or self.path.name)

    @property
    def runs(self) -> tuple[Bundle, ...]:
        """The complete runs of a sweep, in order of combination and repetition; of a run, itself."""
        if self.kind == "run":
            return (self,)
        below = (_read(done.parent) for done in self.path.glob(f"*/{DONE}"))
        found = [bundle for bundle in below if bundle is not None]
        return tuple(sorted(found, key=lambda run: (run.part["combination"], run.part["repetition"])))

    @cached_property
    def part(self) -> Mapping[str, Any]:
        """Which run of a sweep it is, as its `done.json` says; empty if it is part of none.

        Raises:
            UsageError: That file is damaged.
        """
        file = self.path / DONE
        if not file.is_file():
            return {}
        found = _parsed(file)
        if not {"combination", "repetition", "values"} <= set(found):
            raise _damaged(file, "something is missing in it")
        return found

    def swept(self, run: Bundle) -> dict[str, Any]:
        """The values of a run of this sweep; those of a key whose values are all numbers are numbers."""
        values = dict(run.part.get("values", {}))
        for axis in self.document.get("axes", ()):
            for number in (int, float):
                with suppress(ValueError):
                    found = {text: number(text) for text in axis["values"]}
                    values[axis["key"]] = found[values[axis["key"]]]
                    break
        return values

    def require_replayable(self) -> None:
        """Check that the bundle holds what a replay needs.

        Raises:
            UsageError: It was written by a version that did not keep it.
        """
        if "format" not in self.document:
            raise UsageError(
                f"{self.path} was written by a version of nm that did not keep scenario and topology",
                id="results.version",
                found="no `format` in run.json",
                expected=f"format {FORMAT}",
                hint="`nm results show` and `compare` read it; to repeat the run, use `nm run scenario`",
            )


def open_bundle(path: Path) -> Bundle:
    """Read the folder of a run or a sweep.

    Raises:
        UsageError: It is none (`results.none`), it is damaged (`results.damaged`), or a later version of nm
            wrote it (`results.version`).
    """
    found = _read(path)
    if found is None:
        there = (
            "a folder of something else" if path.is_dir() else "nothing" if not path.exists() else "a file"
        )
        raise UsageError(
            f"{path} is no results folder: neither run.json nor sweep.json is in it",
            id="results.none",
            found=there,
            expected="a folder that `nm run scenario` has written, or an archive of one",
            hint="`nm results list` shows what there is",
        )
    return found


@contextmanager
def opened(path: Path) -> Iterator[Bundle]:
    """Read a folder or an archive of one; an archive is unpacked for as long as the body runs.

    Raises:
        UsageError: See `open_bundle`; or an archive cannot be unpacked.
        HostNotFit: There is not enough disk space to unpack it.
    """
    if not (path.is_file() and path.name.endswith(ARCHIVES)):
        yield open_bundle(path)
        return
    with TemporaryDirectory(prefix="nm-bundle-") as temporary:
        _unpack(path, Path(temporary))
        inside = [folder for folder in sorted(Path(temporary).iterdir()) if folder.is_dir()]
        yield open_bundle(inside[0] if len(inside) == 1 else Path(temporary))


def find_bundles(root: Path) -> list[Bundle]:
    """The runs and sweeps below a folder, oldest first; the runs of a sweep are not listed on their own."""
    found: list[Bundle] = []

    def look(folder: Path, depth: int) -> None:
        try:
            bundle = _read(folder)
        except UsageError:
            return  # damaged, or of a later version; `open_bundle` says so to who names it
        if bundle is not None:
            found.append(bundle)
        elif depth:
            with suppress(PermissionError):
                for each in sorted(folder.iterdir()):
                    if each.is_dir() and not each.is_symlink():
                        look(each, depth - 1)

    if root.is_dir():
        look(root, DEPTH)
    return sorted(found, key=lambda each: (str(each.document.get("started", "")), str(each.path)))


def read_rows(run: Bundle) -> list[dict[str, Any]]:
    """The rows of a run; of one that was cut short, those that `events.jsonl` has."""
    try:
        rows = json.loads((run.path / "rows.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        rows = []
    if run.document.get("verdict") in ("pass", "fail") and not run.document.get("unwritten"):
        return list(rows)
    reported = _reported(run.path / "events.jsonl")
    return reported if len(reported) > len(rows) else list(rows)


def _reported(events: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    try:
        with events.open(encoding="utf-8") as file:
            for line in file:
                try:
                    event = json.loads(line)
                except ValueError:
                    continue  # the last line of a run that was killed
                if event.get("kind") == "report" and isinstance(event.get("data"), dict):
                    rows.append(event["data"])
    except OSError:
        pass
    return rows


def _read(folder: Path) -> Bundle | None:
    kinds: tuple[Kind, ...] = ("sweep", "run")
    for kind in kinds:
        file = folder / f"{kind}.json"
        if file.is_file():
            return Bundle(folder, kind, _document(file))
    return None


def _parsed(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(file, str(error)) from error
    if not isinstance(document, dict):
        raise _damaged(file, "it is no mapping")
    return document


def _damaged(file: Path, reason: str) -> UsageError:
    return UsageError(
        f"{file} cannot be read: {reason}",
        id="results.damaged",
        found=str(file),
        hint="events.jsonl and logs/ beside it have what happened, as far as it was written",
    )


def _document(file: Path) -> dict[str, Any]:
    document = _parsed(file)
    version = document.get("format", 0)
    writer = (document.get("versions") or {}).get("nm", "?")
    if not isinstance(version, int) or version > FORMAT:
        raise UsageError(
            f"{file} was written by another version of nm",
            id="results.version",
            found=f"format {version}",
            expected=f"format {FORMAT}, or none",
            hint=f"it was nm {writer}; use that version or a later one",
        )
    return document


def _unpack(archive: Path, target: Path) -> None:
    """Unpack an archive; members outside the target, links and devices are refused or left out.

    Raises:
        UsageError: It is no archive, or its files are too large.
        HostNotFit: There is not enough disk space for its files.
    """
    try:
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive) as packed:
                _require_space(archive, target, (member.file_size for member in packed.infolist()))
                packed.extractall(target)
        else:
            with tarfile.open(archive) as tar:
                _require_space(archive, target, (member.size for member in tar))
                tar.extractall(target, filter="data")
    except (
        OSError,
        EOFError,
        RuntimeError,  # it is encrypted, or packed in a way that is not known
        lzma.LZMAError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise UsageError(
            f"{archive} cannot be unpacked: {error}",
            id="results.damaged",
            found=str(archive),
            expected="an archive made by `nm results export`",
        ) from error


def _require_space(archive: Path, target: Path, sizes: Iterable[int]) -> None:
    """Check that the files of an archive are not too large, before any is written.

    Raises:
        UsageError: They are larger than `MOST_UNPACKED`.
        HostNotFit: They are larger than what is free.
    """
    free = shutil.disk_usage(target).free
    total = 0
    for size in sizes:
        total += size
        if total > MOST_UNPACKED:
            raise UsageError(
                f"the files in {archive} are too large to be unpacked",
                id="results.too-large",
                found=f"more than {MOST_UNPACKED} bytes",
                expected=f"{MOST_UNPACKED} bytes at most",
                hint="unpack it yourself and name the folder",
            )
        if total > free:
            raise HostNotFit(
                f"there is not enough disk space to unpack {archive} below {target.parent}",
                id="results.disk-full",
                found=f"{free} bytes free",
                hint="free disk space, or set TMPDIR to a folder with more of it",
            )
