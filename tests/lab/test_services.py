"""Which services and files words such as `3/redis` and `3:/path` mean, and how a wait for services ends."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from orchestrator import services
from orchestrator.cli.main import run
from orchestrator.deploy import node_states
from orchestrator.deploy.home import LabDirectory
from orchestrator.deploy.host import Host
from orchestrator.deploy.service_wait import until_good
from orchestrator.deploy.state import LabState
from orchestrator.errors import UsageError
from orchestrator.lab.copying import Target, copy, parse
from orchestrator.lab.service import select_service, select_services
from orchestrator.services import Check, Instance, ServiceFailed, ServiceState
from tests.lab.conftest import MakeLab

Up = tuple[LabDirectory, LabState]


def instance(node: int, name: str, **keys: Any) -> Instance:
    return Instance(node=node, node_name=f"node-{node}", address=f"10.0.0.{node}", service=name, **keys)


@pytest.fixture
def up(make_lab: MakeLab) -> Up:
    directory, state = make_lab()
    there = [instance(1, "redis"), instance(1, "web"), instance(2, "web")]
    (directory.run / services.instance.FILE).write_text(services.write_text(there))
    return directory, state


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("1/redis", ["1/redis"]),
        ("trainer/web,w1/web", ["1/web", "2/web"]),
        ("1-2/web", ["1/web", "2/web"]),
        ("all/web", ["1/web", "2/web"]),
    ],
)
def test_words_mean_services(up: Up, words: str, keys: list[str]) -> None:
    assert [each.key for each in select_services(*up, words)] == keys


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("1/rdis", "did you mean `1/redis`?"),
        ("2/redis", "it runs as 1/redis"),
        ("all/nothing", "services are `1/redis`, `1/web`, `2/web`"),
    ],
)
def test_a_service_that_is_not_there_is_a_usage_error(up: Up, word: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        select_services(*up, word)
    assert (caught.value.id, caught.value.found, caught.value.hint) == ("service.unknown", word, hint)


def test_places_of_files(up: Up) -> None:
    assert parse(*up, "w1:/tmp/x") == Target(2, "/tmp/x")
    assert parse(*up, "1/web:/tmp/x") == Target(1, "/tmp/x", select_service(*up, "1/web"))
    assert parse(*up, "./1:/x") == Path("./1:/x")
    assert parse(*up, "file.txt") == Path("file.txt")


@pytest.mark.parametrize("places", [("a", "b"), ("1:/a", "2:/b")])
def test_exactly_one_place_is_in_a_node(up: Up, places: tuple[str, str]) -> None:
    with pytest.raises(UsageError) as caught:
        copy(*up, *(parse(*up, place) for place in places))
    assert caught.value.id == "cp.places"


def test_the_command_line_says_what_is_not_there(up: Up, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["restart", "2/redis"]) == 2
    assert "it runs as 1/redis" in capsys.readouterr().err
    assert run(["exec", "9/redis", "--", "ls"]) == 2


class Seen:
    """A backend of which one service goes through states, the last one for ever."""

    def __init__(self, *states: ServiceState) -> None:
        self._states = list(states)

    async def services(self, _directory: LabDirectory, _state: LabState) -> Sequence[ServiceState]:
        return [self._states.pop(0) if len(self._states) > 1 else self._states[0]]

    async def tail(self, _directory: LabDirectory, part: str, _lines: int) -> list[str]:
        return [f"the last line of {part}"]


def state(kind: str, **keys: Any) -> ServiceState:
    return ServiceState(node=1, service="redis", state=kind, **keys)


async def wait(up: Up, seen: Seen, timeout_s: float = 60.0) -> list[str]:
    said: list[str] = []
    ready = Check(kind="tcp", value=("1",), timeout_s=0.0, interval_s=0.1)
    await until_good(cast(Host, seen), *up, [instance(1, "redis", ready=ready)], said.append, timeout_s)
    return said


async def test_a_wait_names_the_service_and_ends_when_it_is_ready(up: Up) -> None:
    seen = Seen(state("waiting"), state("starting", reason="waits for port 1"), state("ready"))
    assert await wait(up, seen) == [
        "0 of 1 services are ready, redis in node 1 is waiting",
        "0 of 1 services are ready, redis in node 1 is starting: it waits for port 1",
    ]


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (state("failed", exit_code=1, reason="has ended with exit code 1"), "has ended with exit code 1"),
        (state("unready", reason="did not become ready within 1 s"), "did not become ready within 1 s"),
        (state("restarting", deaths=5, exit_code=3), "ended 5 times without becoming ready"),
    ],
)
async def test_a_wait_ends_with_the_service_that_failed(up: Up, last: ServiceState, says: str) -> None:
    with pytest.raises(ServiceFailed, match=says) as caught:
        await wait(up, Seen(state("starting"), last))
    assert caught.value.lines == ("the last line of 1/redis",)


async def test_a_node_that_is_stopped_by_request_keeps_nobody_waiting(up: Up) -> None:
    node_states.record(up[0], [1], "stopped")
    assert await wait(up, Seen(state("stopped"))) == []


async def test_a_wait_has_a_limit(up: Up, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.deploy.service_wait.BEYOND_S", 0.0)
    with pytest.raises(ServiceFailed, match=r"did not get further within 0\.1 s: it waits for web"):
        await wait(up, Seen(state("waiting", reason="waits for web")), 0.1)
