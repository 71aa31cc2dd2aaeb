"""Run the supervisor of a lab: `python -m orchestrator.supervisor FOLDER DESCRIPTOR`.

    read the lab's state file → wait until a part ends → pause, longer each time → restart it → …

It ends when the lab is gone; if the lab's folder was removed without `nm down`, it ends the lab's processes
first. Its log is `logs/supervisor.log`.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

from orchestrator.procfs import end
from orchestrator.supervisor import files
from orchestrator.supervisor.restarts import DEATHS, WINDOW_S, Restarts
from orchestrator.supervisor.watch import Note, Watch, read_note

OTHER_FILES = 32
"""Descriptors that it needs besides those of the parts; far more than it uses."""

LOOK_S = 30.0
"""How often it looks whether the lab is still there while no part ends."""

END_S = 10.0
"""How long parts have to end after SIGTERM; a controller first writes what it still has to Postgres."""


class Supervisor:
    """Watches one lab.

    Args:
        folder: The lab's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._watch = Watch()
        self._restarts = Restarts()
        self._counts: dict[str, int] = {}

    def run(self) -> None:
        """Start parts again until the lab is gone."""
        note = last = read_note(self._folder)
        if note is not None:
            say(f"watching {', '.join(sorted(note.parts))}")
            _allow_files(len(note.parts))
        self._report()
        while note is not None and last is not None and note.run == last.run:
            last = note
            self._watch.follow(note.parts)
            self._note_ended(self._watch.wait(self._limit()), note)
            note = self._start_again(self._restarts.due(time.monotonic()), note)
        say("the lab is gone")
        if last is not None and not self._folder.exists():  # removed without `nm down`
            say("its folder was removed; its parts are ended")
            end(last.parts.values(), END_S)
        if note is None:
            files.marker(self._folder).unlink(missing_ok=True)

    def _limit(self) -> float:
        due = self._restarts.next_due()
        return LOOK_S if due is None else min(LOOK_S, due - time.monotonic())

    def _note_ended(self, roles: list[str], note: Note) -> None:
        for role in roles:
            self._ended(role, f"{role} (process {note.parts[role].pid}) has ended")

    def _ended(self, role: str, what: str) -> None:
        pause = self._restarts.ended(role, time.monotonic())
        if pause is None:
            say(f"{what}; that was {DEATHS} times within {WINDOW_S:g} s, so it is not restarted any more")
            self._report()
        else:
            say(f"{what}; it is started again" + (f" in {pause:g} s" if pause else ""))

    def _start_again(self, roles: list[str], before: Note) -> Note | None:
        """Have parts started, and return the lab's state file afterwards."""
        if not roles:
            return read_note(self._folder)
        _run([sys.executable, "-m", "orchestrator.deploy.native.restart", str(self._folder), *roles])
        note = read_note(self._folder)
        if note is None:
            return None
        for role in roles:
            now = note.parts.get(role)
            if now is None or now == before.parts.get(role):
                self._ended(role, f"{role} could not be started")
            else:  # should it have ended again already, the watch tells
                self._counts[role] = self._counts.get(role, 0) + 1
                say(f"{role} runs again as process {now.pid}")
        self._report()
        return note

    def _report(self) -> None:
        """Write down what was done, for `nm status`."""
        path = files.report_file(self._folder)
        temporary = path.with_name(f".{path.name}.new")
        told = {
            "pid": os.getpid(),
            "restarts": self._counts,
            "left_dead": self._restarts.left_dead,
        }
        text = json.dumps(told)
        with suppress(OSError):  # the folder is gone, or its disk is full
            temporary.write_text(text)
            temporary.replace(path)


def say(what: str) -> None:
    """Write a line to the log."""
    print(f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {what}", flush=True)


def _allow_files(parts: int) -> None:
    """Raise our limit of open files where a descriptor for each part would pass it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if parts + OTHER_FILES > soft != resource.RLIM_INFINITY:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run(words: list[str]) -> None:
    """Run a program to its end; what it says goes to our log."""
    # What Python ignores, the program must not inherit.
    child = os.posix_spawn(words[0], words, os.environ, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ])
    os.waitpid(child, 0)


def main(words: list[str]) -> int:
    """Watch a lab until it is gone; returns the exit code."""
    folder, lock = Path(words[0]), int(words[1])
    os.set_inheritable(lock, False)  # held by us alone: it is free when we are dead
    Supervisor(folder).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
