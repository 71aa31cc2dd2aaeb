"""Extract from the pages, block by block, what a reader has to type.

A fenced block is typed, written to a file or read as a file, as its language says (`test_pages.py`). Comments
right above a block, which the built pages do not show, say what cannot be seen from it:

    <!-- not run: REASON -->    the block cannot run in the test; the reason says what it would take
    <!-- exits with N -->       its last command ends with this exit code, 0 unless said; a file is refused

In shown output, what differs from run to run is compared by its form alone (`NEVER_THE_SAME`), and `…` stands
for anything: alone on a line for any lines, within a line for any text. Lines of a box, and the width of the
columns of a table, count for nothing, since both depend on the terminal.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
PAGES = (README, *sorted((ROOT / "docs").rglob("*.md")))

LANGUAGES = frozenset({"bash", "console", "ini", "json", "python", "sql", "text", "toml", "yaml"})
GENERATED = "<!-- Made from the code by `make docs`"
"""How a page begins that `scripts.reference --check` compares with the code."""

_BLOCK = re.compile(
    r"(?P<notes>(?:^<!-- [^\n]* -->\n)*)"
    r'^(?P<indent> *)```(?P<language>\w*)(?: title="(?P<title>[\w./-]+)")?[^\n]*\n'
    r"(?P<body>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)
_NOTE = re.compile(r"<!-- (?:not run: (?P<reason>.*)|exits with (?P<code>\d+)) -->")

NEVER_THE_SAME = (
    (re.compile(r"\b\d{4}-\d\d-\d\d-\d{6}\b|\b\d{4}-\d\d-\d\dT[\d:.]+Z"), "DATE"),
    (re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12,64}\b"), "DIGEST"),
    (re.compile(r"(?<=-)[0-9a-f]{6}\b"), "ID"),
    (re.compile(r"\b\d+(?:\.\d+)? ?(?:µs|us|ms|s|min)\b"), "TIME"),
    (re.compile(r"\b\d+(?:\.\d+)? ?[KMG]?(?:bits/sec|Bytes|MB/s)"), "RATE"),
    (re.compile(r"(?<![\d.])\d+\.\d+(?![\d.])"), "NUMBER"),
    (re.compile(r"\b\d{1,3}(?: \d{3}){2,}\b"), "BYTES"),
)
"""Dates, digests, ids of runs, times, rates, measured numbers with a point, and counts of a million bytes or
more; addresses have three points and are compared as they are."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        language: What it is written in.
        body: Its text.
        title: The file that it shows; empty where it shows none.
        reason: Why it is not run; empty if it is.
        code: What its last command exits with.
        line: Where it begins on its page.
    """

    language: str
    body: str
    title: str = ""
    reason: str = ""
    code: int = 0
    line: int = 0


@dataclass(frozen=True)
class Command:
    """Something to type, and what the page shows under it; None where it shows nothing."""

    text: str
    shown: str | None = None


def name(page: Path) -> str:
    """Return a page as its path in the repository."""
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page in their order."""
    text = page.read_text()
    for match in _BLOCK.finditer(text):
        notes = list(_NOTE.finditer(match["notes"]))
        yield Block(
            match["language"],
            "".join(line.removeprefix(match["indent"]) for line in match["body"].splitlines(keepends=True)),
            match["title"] or "",
            next((note["reason"] for note in notes if note["reason"]), ""),
            next((int(note["code"]) for note in notes if note["code"]), 0),
            text.count("\n", 0, match.start("language")) + 1,
        )


def commands(block: Block) -> Iterator[Command]:
    """Yield what a block of `bash` or `console` has to be typed."""
    if block.language == "bash":
        yield from (Command(text) for text in _complete(block.body.splitlines()))
        return
    typed, shown = "", list[str]()
    for line in block.body.splitlines():
        if line.startswith("$ "):
            if typed:
                yield Command(typed, "\n".join(shown) if shown else None)
            typed, shown = line[2:], []
        elif typed.endswith("\\") and not shown:
            typed += f"\n{line}"
        else:
            shown.append(line)
    if typed:
        yield Command(typed, "\n".join(shown) if shown else None)


def _complete(lines: list[str]) -> Iterator[str]:
    """Join lines until the shell finds nothing missing."""
    typed = ""
    for line in lines:
        typed += f"{line}\n"
        if not typed.strip() or typed.lstrip().startswith("#"):
            typed = ""
            continue
        parsed = subprocess.run(["bash", "-n", "-c", typed], capture_output=True, check=False)
        if parsed.returncode == 0 and not line.endswith("\\"):
            yield typed
            typed = ""
    assert not typed, f"the block ends in the middle of a command: {typed}"


def as_shown(shown: str, printed: str) -> bool:
    """Whether what was printed is what a page shows."""
    wanted, lines = _lines(shown), [line for line in _lines(printed) if not line.startswith("… ")]
    pattern = ""
    for line in wanted:
        if line == "…":
            pattern += "(?:[^\n]*\n)*"
        else:
            pattern += "[^\n]*".join(map(re.escape, line.split("…"))) + "\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None


def _lines(text: str) -> list[str]:
    found = []
    for line in text.splitlines():
        line = re.sub("[╭╮╰╯├┤┬┴┼─│]+", " ", line)
        for form, word in NEVER_THE_SAME:
            line = form.sub(word, line)
        line = " ".join(line.split())
        if line:
            found.append(line)
    return found
