"""Measure the time to wake a thread: a lower bound for packet paths in user space.

On a kernel path a ping wakes only the process `ping`; a relay in user space is woken for the request and for
the reply. On a virtual machine whose idle CPUs are descheduled that costs hundreds of microseconds, on bare
metal a few.
"""

from __future__ import annotations

import os
import statistics
import threading
import time

__all__ = ["round_trip_us"]

_PAUSE_S = 0.01  # between two rounds, as between the pings of a sample: the CPUs go idle


def round_trip_us(rounds: int = 200) -> float:
    """Return the median time in microseconds to wake another idle thread and to be woken by it.

    The threads run on different CPUs where there are two. The caller's CPU affinity is not changed.
    """
    there, back = os.pipe(), os.pipe()
    cpus = sorted(os.sched_getaffinity(0))
    answerer = threading.Thread(target=_answer, args=(there[0], back[1], cpus[-1]), daemon=True)
    answerer.start()
    taken: list[int] = []
    asker = threading.Thread(target=_ask, args=(there[1], back[0], cpus[0], rounds, taken), daemon=True)
    asker.start()
    asker.join(timeout=rounds * 0.1 + 10)
    answerer.join(timeout=10)
    for end in (*there, *back):
        os.close(end)
    return statistics.median(taken) / 1000


def _ask(out: int, answers: int, cpu: int, rounds: int, taken: list[int]) -> None:
    os.sched_setaffinity(0, {cpu})
    for _ in range(rounds):
        time.sleep(_PAUSE_S)
        begin = time.perf_counter_ns()
        os.write(out, b"?")
        os.read(answers, 1)
        taken.append(time.perf_counter_ns() - begin)
    os.write(out, b".")


def _answer(questions: int, out: int, cpu: int) -> None:
    os.sched_setaffinity(0, {cpu})
    while os.read(questions, 1) == b"?":
        os.write(out, b"!")
