"""Read the text of a file, with a specific error for each way that can fail."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from orchestrator.errors import Place, nearest
from orchestrator.source.tree import Problems

__all__ = ["LARGEST_FILE", "named", "read_stated", "read_text"]

STDIN = "-"
"""As a file's name: read standard input."""

# A topology of 1,000 nodes with every link spelled out is about 100 KB; beyond this it is probably the wrong
# file.
LARGEST_FILE = 8 * 1024 * 1024


def named(path: str | os.PathLike[str]) -> str:
    """Return what messages call a file: its name as given, `<stdin>` for standard input."""
    shown = os.fspath(path)
    return "<stdin>" if shown == STDIN else shown


def read_text(path: Path, shown: str, problems: Problems) -> str | None:
    """Return a file's text, or None after noting why it cannot be read.

    Args:
        path: The file; `-` is standard input.
        shown: Its name as the user typed it, for messages.
        problems: Takes what is wrong.
    """
    place = Place(shown)
    try:
        if str(path) == STDIN:
            raw = sys.stdin.buffer.read(LARGEST_FILE + 1)
        else:
            with path.open("rb") as stream:
                raw = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        problems.add(
            "there is no such file", "file.missing", place, found=shown, hint=_neighbour(path, shown)
        )
        return None
    except IsADirectoryError:
        problems.add("this is a folder, but a file is expected", "file.is-folder", place, found=shown)
        return None
    except OSError as error:
        problems.add(f"the file cannot be read: {error.strerror}", "file.unreadable", place, found=shown)
        return None
    if len(raw) > LARGEST_FILE:
        limit = f"{LARGEST_FILE // 2**20} MiB"
        problems.add(f"the file is larger than {limit}", "file.too-large", place, expected=limit)
        return None
    return _decode(raw, shown, problems)


def read_stated(
    path: Path, name: str, place: Place, problems: Problems, *, what: str, expected: str
) -> str | None:
    """Return the text of a file that another file names, or None after noting at that place why it has none.

    Args:
        path: The file.
        name: How it is named.
        place: Where.
        problems: Takes what is wrong.
        what: What messages call it, such as `trace`.
        expected: What kind of file it should be.
    """
    found = Problems("file")
    text = read_text(path, str(path), found)
    for problem in found:
        problems.add(
            f"the {what} `{path}` cannot be used: {problem.message}",
            problem.id,
            place,
            found=name,
            expected=expected,
            hint=problem.hint,
        )
    return text


def _decode(raw: bytes, shown: str, problems: Problems) -> str | None:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        problems.add(
            f"byte 0x{raw[error.start]:02x} is not UTF-8 text",
            "file.encoding",
            Place(shown, line, column),
            expected="UTF-8",
        )
        return None


def _neighbour(path: Path, shown: str) -> str | None:
    """Return a hint with a file of nearly the same name, if there is one."""
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.is_file()]
    except OSError:
        return f"the folder `{path.parent}` does not exist either"
    close = nearest(path.name, names)
    if close is None:
        return None
    return f"did you mean `{shown.removesuffix(path.name)}{close}`?"
