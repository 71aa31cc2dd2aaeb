"""The benchmark of services on docker: its figures, and that both sides start the same services."""

from __future__ import annotations

import pytest
import yaml

from benchmarks.services.__main__ import HERE, LAB, LIMIT, parse, summary
from orchestrator.topology import load


def test_differences_are_those_within_a_round() -> None:
    found = summary([5.0, 9.0, 6.0], [3.0, 8.0, 2.0])
    assert found == {
        "lab_s": 6.0,
        "compose_s": 3.0,
        "difference_s": 2.0,
        "largest_difference_s": 4.0,
    }
    assert LIMIT.kept(found["difference_s"])


def test_the_lab_and_the_compose_file_have_the_same_services() -> None:
    compose = yaml.safe_load((HERE / "docker-compose.yml").read_text())["services"]
    services = {service.name: service for service in load(LAB).services}
    assert compose.keys() == services.keys()
    for name, service in services.items():
        assert service.build is not None and service.ready is not None
        assert service.build.context == str(HERE / compose[name]["build"]["context"])
        assert (HERE / compose[name]["build"]["context"] / "Dockerfile").is_file()


def test_an_unknown_option_is_refused() -> None:
    assert parse([]).rounds == 3
    with pytest.raises(SystemExit):
        parse(["--nosuch"])
