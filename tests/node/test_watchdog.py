"""Test the watchdog of the node's descriptors."""

from __future__ import annotations

import os
import select
import threading

import pytest

from orchestrator import syscalls
from orchestrator.node import watchdog as watchdog_module
from orchestrator.node.watchdog import Watchdog, own_descriptors

ROLES = 50


class CountedLock:
    """A lock that says when so many have come to it."""

    def __init__(self, expected: int) -> None:
        self._lock = threading.Lock()
        self._counting = threading.Lock()
        self._missing = expected
        self.all_came = threading.Event()

    def __enter__(self) -> None:
        with self._counting:
            self._missing -= 1
            if self._missing == 0:
                self.all_came.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_roles_that_end_together_share_a_look_that_began_after_they_came(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    watchdog = Watchdog()
    lock = CountedLock(1 + ROLES)
    monkeypatch.setattr(watchdog, "_looking", lock)
    looking, go_on = threading.Event(), threading.Event()
    looks: list[str] = []

    def damage() -> str:
        looks.append(threading.current_thread().name)
        looking.set()
        assert go_on.wait(10)
        return ""

    monkeypatch.setattr(watchdog, "damage", damage)
    early = threading.Thread(target=watchdog.check)
    early.start()
    assert looking.wait(10)
    late = [threading.Thread(target=watchdog.check) for _ in range(ROLES)]
    for thread in late:
        thread.start()
    assert lock.all_came.wait(10)
    go_on.set()
    for thread in [early, *late]:
        thread.join(10)
    # The look under way had begun before the others came, so they need one more, and only one.
    assert len(looks) == 2


def test_an_event_queue_that_is_closed_or_replaced_by_another_is_damage() -> None:
    with select.epoll() as kept, select.epoll() as other:
        watchdog = Watchdog()
        assert watchdog.damage() == ""
        number = kept.fileno()
        saved = os.dup(number)
        try:
            os.close(number)
            assert f"descriptor {number} (anon_inode:[eventpoll])" in watchdog.damage()
            os.dup2(other.fileno(), number)
            if syscalls.KCMP is not None:
                assert "another one now" in watchdog.damage()
        finally:
            os.dup2(saved, number)
            os.close(saved)
        assert watchdog.damage() == ""


def test_an_agent_that_ended_takes_its_own_descriptors_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the one that is started next would find its process ended by the watchdog of the one before."""
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    with select.epoll():
        before = len(own_descriptors())
        watchdog = Watchdog()
        watchdog.close()
        watchdog.close()
        assert len(own_descriptors()) == before + len(watchdog._kept) + 1
    watchdog.check()
    assert ended == []
    open_one = Watchdog()
    open_one._watched[4095] = ("anon_inode:[eventpoll]", (0, 0, 0))
    open_one.check()
    assert ended == [watchdog_module.DAMAGED]


def test_what_a_node_that_is_closed_by_request_held_is_watched_no_more() -> None:
    with select.epoll() as kept, select.epoll() as closed:
        watchdog = Watchdog()
        with watchdog.nodes_change():
            closed.close()
            assert watchdog.damage()  # which nobody looks at just now
            watchdog.check()
        assert watchdog.damage() == ""
        saved = os.dup(kept.fileno())
        os.close(kept.fileno())
        assert watchdog.damage()
        os.dup2(saved, kept.fileno())
        os.close(saved)


def test_the_device_of_a_node_that_was_opened_again_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = Watchdog()
    monkeypatch.setattr(watchdog_module, "_DEVICE", "/dev/null")
    with watchdog.nodes_change():
        device = os.open("/dev/null", os.O_RDWR)
    os.close(device)
    assert watchdog.damage() == f"descriptor {device} (/dev/null)"
