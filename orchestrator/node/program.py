"""Unpack and import a scenario's code, once per run, and remove it afterwards.

The files arrive with the run, so a node does not need the operator's disk. They are imported under names that
carry the run, because the next run may bring other code under the same names.
"""

from __future__ import annotations

import importlib.util
import inspect
import secrets
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from orchestrator.errors import NmError, nearest_hint

RoleFunction = Callable[[Any], Any]

_importing = threading.Lock()
"""`sys.path` is shared by all runs of the process; two imports at once would see each other's folders."""

IMPORT_SLICE_S = 0.1


class ProgramError(NmError):
    """The scenario's code cannot be used; the message says which file and why."""

    id = "scenario.program"


class Program:
    """The code of one run; it is unpacked when the first role asks for its function, in the role's thread.

    Args:
        run: The run's id.
        files: Content by path relative to the scenario's folder.
        entry: The file that has the roles.
        work: Where to unpack; a folder is made under it and removed by `close`.
    """

    def __init__(self, run: str, files: Mapping[str, bytes], entry: str, work: Path) -> None:
        self.folder = work / f"run-{run}-{secrets.token_hex(4)}"
        self.entry = entry
        self._files = files
        self._unpacked = False
        self._run = run
        self._module: ModuleType | None = None

    @classmethod
    def unpacked(cls, run: str, folder: Path, entry: str) -> Program:
        """The code of a run that another process has unpacked."""
        program = cls(run, {}, entry, folder.parent)
        program.folder = folder
        program._unpacked = True
        return program

    def unpack(self) -> None:
        """Write the files, if that was not done yet.

        Raises:
            ProgramError: There is no room for them.
        """
        # In slices, so that a role that is stopped need not wait for the code of another run.
        while not _importing.acquire(timeout=IMPORT_SLICE_S):
            pass
        try:
            self._unpack_all()
        finally:
            _importing.release()

    def role(self, name: str) -> RoleFunction:
        """The function of a role; the first call imports the code.

        Raises:
            ProgramError: The files cannot be unpacked, the entry is not there or has no such function.
        """
        # In slices, so that a role that is stopped need not wait for the code of another run.
        while not _importing.acquire(timeout=IMPORT_SLICE_S):
            pass
        try:
            if self._module is None:
                self._unpack_all()
                self._module = self._import()
        finally:
            _importing.release()
        function = getattr(self._module, function_name(name), None)
        if not callable(function):
            known = [
                key
                for key, value in vars(self._module).items()
                if inspect.isfunction(value) and not key.startswith("_")
            ]
            raise ProgramError(
                f"{self.entry} has no function `{function_name(name)}` for the role {name}",
                found=name,
                hint=nearest_hint(function_name(name), known, what="functions there are"),
            )
        return function  # type: ignore[no-any-return]  # callable() says all that can be said of user code

    def close(self) -> None:
        """Forget the code and remove the files; this takes as long as the disk takes."""
        prefix = str(self.folder)
        self._module, self._files = None, {}
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None) or "").startswith(prefix):
                del sys.modules[name]
        sys.path[:] = [entry for entry in sys.path if entry != prefix]
        shutil.rmtree(self.folder, ignore_errors=True)

    def _unpack_all(self) -> None:
        if self._unpacked:
            return
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, content in self._files.items():
                self._unpack(name, content)
            self._unpacked = True
        except OSError as error:
            raise _no_room(error) from error

    def _unpack(self, name: str, content: bytes) -> None:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or not path.parts:
            raise ProgramError(f"the scenario holds a file that would leave its folder: {name}", found=name)
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    def _import(self) -> ModuleType:
        path = self.folder / self.entry
        name = f"nm_run_{self._run.replace('-', '_')}_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise ProgramError(f"the scenario has no file {self.entry}", found=self.entry)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        sys.path.insert(0, str(self.folder))
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        finally:
            # What it imported beside itself stays usable by it, and must not be found by another run.
            self._hide_siblings(module)
        return module

    def _hide_siblings(self, entry: ModuleType) -> None:
        prefix = str(self.folder)
        for name, module in list(sys.modules.items()):
            file = str(getattr(module, "__file__", None) or "")
            if module is not entry and file.startswith(prefix):
                del sys.modules[name]


def _no_room(error: OSError) -> ProgramError:
    return ProgramError(
        f"the scenario's files cannot be unpacked: {error.strerror or error}",
        found=str(error.filename or ""),
        hint="the disk under the lab's folder may be full; NM_HOME moves it",
    )


def function_name(role: str) -> str:
    """The Python name of a role: `-` is allowed in a role's name and not in a function's."""
    return role.replace("-", "_")
