"""Write a run or a sweep as one archive, or its rows as one table; remove a results folder."""

from __future__ import annotations

import csv
import fcntl
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.errors import LabBusy, UsageError
from orchestrator.results.bundle import ARCHIVES, LOCK, Bundle, open_bundle, read_rows
from orchestrator.results.folder import EVENTS, unwritable
from orchestrator.results.parquet import columns, parquet_bytes

__all__ = ["FORMATS", "export", "joined_rows", "remove", "require_removable"]

TABLES = (".csv", ".parquet")
FORMATS = (*ARCHIVES, *TABLES)


def export(bundle: Bundle, target: Path) -> None:
    """Write a bundle to a file; its name says as what.

    Args:
        bundle: The run or the sweep.
        target: An archive (`.tar.gz`, `.zip`) of the folder, or a table (`.csv`, `.parquet`) of the rows.

    Raises:
        UsageError: The name says nothing, or the file exists.
        HostNotFit: It cannot be written.
    """
    if not target.name.endswith(FORMATS):
        raise UsageError(
            f"the name of {target} does not say what to write",
            id="export.format",
            found=target.name,
            expected="a name that ends with " + ", ".join(f"`{each}`" for each in FORMATS),
        )
    if target.exists():
        raise UsageError(
            f"{target} exists",
            id="export.exists",
            found=str(target),
            hint="remove it, or choose another name",
        )
    temporary = target.with_name(f".{target.name}.part")
    try:
        _writer(target.name)(bundle, temporary)
        temporary.replace(target)
    except OSError as error:
        raise unwritable(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def joined_rows(bundle: Bundle) -> list[dict[str, Any]]:
    """The rows of all runs; those of a sweep begin with run, repetition and the swept keys."""
    found: list[dict[str, Any]] = []
    for run in bundle.runs:
        head: dict[str, Any] = {}
        if run.part:
            head = {"run": run.name, "repetition": run.part["repetition"], **bundle.swept(run)}
        for row in read_rows(run):
            # A column that a role reports under the name of a swept key keeps its name.
            renamed = {f"{key} (swept)" if key in row else key: value for key, value in head.items()}
            found.append({**renamed, **row})
    return found


def require_removable(path: Path) -> Bundle:
    """Check that a folder is one of ours, as a whole.

    Raises:
        UsageError: It is a link, or no folder of a run or a sweep.
        LabBusy: It is that of a run or a sweep that is under way, or of a run of such a sweep.
    """
    if path.is_symlink():
        raise UsageError(
            f"{path} is a link", id="results.none", found=str(path), expected="the folder of a run or a sweep"
        )
    bundle = open_bundle(path)
    if bundle.kind not in bundle.document or "scenario" not in bundle.document:
        raise UsageError(
            f"{path} has a {bundle.kind}.json that nm has not written",
            id="results.none",
            found=str(path),
            expected="the folder of a run or a sweep",
        )
    if not _is_idle(path / EVENTS):
        raise LabBusy(
            f"the run {path} is under way", id="results.busy", found=str(path), hint="wait for its end"
        )
    for sweep in (path, path.resolve().parent):
        if not _is_idle(sweep / LOCK):
            raise LabBusy(
                f"the sweep {sweep} is being run by another process", id="sweep.busy", found=str(sweep)
            )
    return bundle


def _is_idle(locked: Path) -> bool:
    """Whether no process has a lock on a file: the events of a run, or that of a sweep for the purpose."""
    with suppress(FileNotFoundError), locked.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def remove(path: Path) -> str:
    """Remove the folder of a run or a sweep; return its name.

    Raises:
        UsageError: It is no such folder; nothing is removed.
        HostNotFit: Something in it cannot be removed.
    """
    bundle = require_removable(path)
    try:
        shutil.rmtree(path)
    except OSError as error:
        raise unwritable(path, error) from error
    return bundle.name


def _writer(name: str) -> Callable[[Bundle, Path], None]:
    if name.endswith(".zip"):
        return _zip
    if name.endswith(ARCHIVES):
        return _tar
    return _csv if name.endswith(".csv") else _parquet


def _tar(bundle: Bundle, target: Path) -> None:
    with tarfile.open(target, "w:gz") as packed:
        packed.add(bundle.path, bundle.path.resolve().name, filter=_shown_file)


def _shown_file(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    if Path(member.name).name.startswith(".") or not (member.isfile() or member.isdir()):
        return None
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _zip(bundle: Bundle, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(bundle.path.rglob("*")):
            if file.is_file() and not file.is_symlink() and not file.name.startswith("."):
                packed.write(file, Path(bundle.path.resolve().name) / file.relative_to(bundle.path))


def _csv(bundle: Bundle, target: Path) -> None:
    rows = joined_rows(bundle)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in row.items()} for row in rows)
    target.write_text(text.getvalue(), encoding="utf-8", errors="backslashreplace")


def _parquet(bundle: Bundle, target: Path) -> None:
    target.write_bytes(parquet_bytes(joined_rows(bundle)) or b"")


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, Mapping | list) else value
