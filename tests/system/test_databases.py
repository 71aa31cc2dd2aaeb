"""Redis, Postgres and nginx in containers on a ring with 20 ms links: a replica and a load test."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.deploy.home import Home
from orchestrator.lab import Lab
from orchestrator.lab.commands import Completed
from orchestrator.testing.plugin import Labs
from tests.integration.services import checked
from tests.integration.waiting import until

IMAGES = Path(__file__).parents[2] / "benchmarks" / "services" / "images"
TEXT = f"""\
name: databases
topology: {{type: ring, n_nodes: 4}}
defaults:
  link: {{delay: 20 ms}}
services:
  redis: {{nodes: 1, build: {IMAGES}/redis, ready: {{command: redis-cli ping}}}}
  replica:
    nodes: 3
    build: {IMAGES}/redis
    command: [redis-server, --bind, 0.0.0.0, --protected-mode, "no", --save, "", --replicaof, node-1, "6379"]
    ready: {{command: redis-cli ping}}
    depends_on: [redis]
  postgres: {{nodes: 2, build: {IMAGES}/postgres, ready: {{command: pg_isready -h 127.0.0.1}}}}
  nginx: {{nodes: 4, build: {IMAGES}/nginx, ready: {{http: 80/}}}}
"""


@pytest.fixture(scope="module")
def lab(home: Home) -> Iterator[Lab]:
    labs = Labs(home)
    try:
        yield labs.up(TEXT, backend="docker")
    finally:
        labs.end()


def test_a_replica_follows_over_the_emulated_links(lab: Lab) -> None:
    leader, replica = lab.node(1).service("redis"), lab.node(3).service("replica")
    until(lambda: "master_link_status:up" in replica.run("redis-cli info replication").stdout)
    assert checked(leader.run("redis-cli set colour green")).strip() == "OK"
    # One replica has confirmed: two links of 20 ms each way.
    assert checked(leader.run("redis-cli wait 1 5000")).strip() == "1"
    assert checked(replica.run("redis-cli get colour")).strip() == "green"
    assert "slave0:ip=10.0.0.3" in checked(leader.run("redis-cli info replication"))


def test_a_load_test_over_the_emulated_links(lab: Lab) -> None:
    """Fifty clients two links away: none is answered before the round trip of 80 ms."""
    words = "redis-benchmark -h node-1 -c 50 -n 1000 -t set,get --csv"
    done: Completed = lab.node(3).service("replica").run(words, timeout=60)
    rows = list(csv.DictReader(io.StringIO(checked(done))))
    assert [row["test"] for row in rows] == ["SET", "GET"]
    for row in rows:
        assert float(row["min_latency_ms"]) >= 80
        assert 100 < float(row["rps"]) <= 50 / 0.080


def test_the_others_answer_from_other_nodes(lab: Lab) -> None:
    page = checked(lab.node(1).run("curl -s http://node-4/"))
    assert "Welcome to nginx" in page
    query = "psql -h node-2 -U postgres -Atc 'select 6 * 7'"
    assert checked(lab.node(2).service("postgres").run(query)).strip() == "42"
