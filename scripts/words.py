"""Check that names, comments, pages and messages use standard terms: `python -m scripts.words`.

`WORDS` lists words that were once used as metaphors here, each with the terms to use instead. They are
searched in every tracked text file of `FOLDERS`, as words of a text and as parts of an identifier
(`take_seat`, `SeatTaken`). `ALLOWED` lists the uses that are not metaphors.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ALLOWED", "FOLDERS", "WORDS", "Finding", "findings", "main", "tracked"]

ROOT = Path(__file__).resolve().parent.parent

FOLDERS = (
    ".github/",
    "Makefile",
    "README.md",
    "mkdocs.yml",
    "benchmarks/",
    "compose/",
    "docs/",
    "images/",
    "nextmini_py/",
    "orchestrator/",
    "scenarios/",
    "scripts/",
    "tests/",
    "topologies/",
    "dataplane/",
)
"""Where text and code of our own are."""

WORDS: Mapping[str, str] = {
    "barks?|barked": "report",
    "bells?": "wake-up, eventfd",
    "births?": "start",
    "corpses?": "ended process",
    "crowd(?:s|ed)?": "many connections",
    "culprits?": "failed part",
    "desks?": "handler",
    "doors?": "listener, socket",
    "dut(?:y|ies)": "agent loop, task",
    "errands?": "command",
    "guests?": "external node, container",
    "heed(?:s|ed)?": "handle",
    "honest(?:y|ly)?": "check",
    "houses?": "package, layer",
    "keepers?": "supervisor, thread",
    "lens(?:es)?": "stage",
    "letters?": "message",
    "mail": "message, mailbox",
    "mend(?:s|ed|ing)?": "repair, fix, restart",
    "news": "change",
    "newcomers?": "new node, new user",
    "nonsense": "invalid input",
    "obey(?:s|ed|ing)?": "handle, follow",
    "(?:im)?patien(?:t|ce)": "timeout",
    "peace": "shielded",
    "polite(?:ly)?": "graceful",
    "portals?": "loop thread",
    "riddles?": "unclear error",
    "rude(?:ly)?": "misbehaving",
    "seats?": "external node",
    "shel(?:f|ves)": "store",
    "sisters?": "variant",
    "spoil(?:s|ed)?": "make fail",
    "stairs?": "import, layer",
    "strangers?": "unauthenticated peer",
    "strays?": "leftover, orphan",
    "twins?": "counterpart, asynchronous variant",
}

ALLOWED = (
    # Letters of the alphabet.
    r"\b(?:small |Greek |a )letters?\b",
    r"\bletters?(?=, digits| and digits| or a digit| in \"| == \")",
    r"\bfor index, letter\b",
    # A field of `/proc/stat` in proc(5).
    r"\bGuest time\b",
    # A value in records of measurements.
    r"named, `up` mends just that",
)

_TEXT = {".ini", ".j2", ".md", ".py", ".pyi", ".rs", ".sh", ".toml", ".txt", ".yaml", ".yml", ""}
_SKIPPED = (
    "benchmarks/results/",  # records of measurements
    "docs/reference/benchmarks.md",  # made from them
    "dataplane/fuzz/corpus/",  # inputs of the fuzz targets, which are no text
    "scripts/words.py",
    "tests/architecture/test_words.py",
    "tests/golden/",  # names of test cases
    "tests/nextmini_py/seeds/",  # programs that were given to us
)
_WORD = re.compile(rf"(?<![A-Za-z])(?:{'|'.join(WORDS)})(?![a-z])", re.IGNORECASE)
_ALLOWED = re.compile("|".join(ALLOWED))
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class Finding:
    """A word where it should not be."""

    file: str
    line: int
    word: str

    def __str__(self) -> str:
        instead = next(
            terms for words, terms in WORDS.items() if re.fullmatch(words, self.word, re.IGNORECASE)
        )
        return f"{self.file}:{self.line}: `{self.word}`: use {instead}"


def main() -> int:
    """Print every finding; return 1 if there is one."""
    found = [each for file in tracked() for each in findings(file, (ROOT / file).read_text(encoding="utf-8"))]
    for each in found:
        print(each)
    return 1 if found else 0


def tracked() -> list[str]:
    """Return the files to check."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return [
        file
        for file in listed.stdout.splitlines()
        if file.startswith(FOLDERS)
        and not file.startswith(_SKIPPED)
        and Path(file).suffix in _TEXT
        and (ROOT / file).is_file()
    ]


def findings(file: str, text: str) -> Iterator[Finding]:
    """Yield the findings in a file's name and text; line 0 is the name."""
    for number, line in enumerate([file, *text.splitlines()]):
        words = _CAMEL.sub(" ", _ALLOWED.sub("", line)).replace("_", " ")
        for match in _WORD.finditer(words):
            yield Finding(file, number, match[0])


if __name__ == "__main__":
    sys.exit(main())
