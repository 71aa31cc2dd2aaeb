"""The command: `python -m benchmarks.services [--rounds 3] [--publish]`.

A round brings up `lab.yaml` with `nm up`, and the same three services without a network with
`docker-compose up -d`, and measures both until every service answers; each has the same check, run in its
container. Images are built before. Which of the two comes first alternates.

Exit code 0 when the median difference is within the bar, 1 when it is not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import machine, program
from benchmarks.commands import require, run
from benchmarks.errors import CommandFailed, NotRunnable
from benchmarks.limits import Limit
from benchmarks.tables import number, table
from orchestrator import __version__
from orchestrator.plan import Images
from orchestrator.topology import Topology, load

__all__ = ["main", "parse", "summary"]

LIMIT = Limit("services", "`nm up`, 3 services, docker: longer than `docker-compose up`", "s", 3)

LIMIT_S = 180.0
HERE = Path(__file__).parent
LAB = HERE / "lab.yaml"
PROJECT = "nmbenchservices"
COMPOSE = ("docker-compose", "-f", str(HERE / "docker-compose.yml"), "-p", PROJECT)
NM = (sys.executable, "-m", "orchestrator.cli")
POLL_S = 0.05


def parse(words: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.services",
        description="Compare the start of a lab with three services with that of the services by Compose.",
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds")
    parser.add_argument("-o", dest="format", choices=("table", "json"), default="table", help="what to print")
    program.add_record_options(parser)
    return parser.parse_args(words)


def summary(lab: Sequence[float], compose: Sequence[float]) -> dict[str, float]:
    """Return the medians over rounds, in seconds; the difference is that within each round."""
    return {
        "lab_s": statistics.median(lab),
        "compose_s": statistics.median(compose),
        "difference_s": statistics.median(a - b for a, b in zip(lab, compose, strict=True)),
        "largest_difference_s": max(a - b for a, b in zip(lab, compose, strict=True)),
    }


def main(words: list[str] | None = None) -> int:
    """Run the benchmark and return the exit code."""
    options = parse(sys.argv[1:] if words is None else words)
    host = machine.describe()
    try:
        require("docker", package="docker.io")
        require("docker-compose")
        lab, compose = measure(options.rounds)
    except NotRunnable as error:
        print(error, file=sys.stderr)
        return 4
    except CommandFailed as error:
        print(error, file=sys.stderr)
        return 1
    found = summary(lab, compose)
    kept = LIMIT.result(
        found["difference_s"],
        f"{number(found['lab_s'], 's')} against {number(found['compose_s'], 's')}, "
        f"medians of {options.rounds} rounds",
    )
    record = {
        "benchmark": "services",
        "machine": host,
        "lab": lab,
        "compose": compose,
        **found,
        "goals": [kept.as_json()],
        "rows": [],
    }
    if options.format == "json":
        print(json.dumps(record, indent=1))
    else:
        cells = [
            (str(index), number(a, "s"), number(b, "s"), number(a - b, "s"))
            for index, (a, b) in enumerate(zip(lab, compose, strict=True), 1)
        ]
        medians = [number(found[key], "s") for key in ("lab_s", "compose_s", "difference_s")]
        cells.append(("median", medians[0], medians[1], medians[2]))
        print(table(("Round", "nm up", "docker-compose up", "difference"), cells))
    program.keep(record, options)
    return 0 if kept.ok else 1


def measure(rounds: int) -> tuple[list[float], list[float]]:
    """Return the seconds of each round until every service answers: of the lab, and of Compose."""
    topology = load(LAB)
    images = {**os.environ, "NODE_IMAGE": Images.of_version(__version__).node}
    run([*COMPOSE, "build", "-q"], timeout=900, env=images)
    lab, compose = [], []
    with tempfile.TemporaryDirectory(prefix="nm-services-") as folder:
        env = {**images, "NM_HOME": folder}
        # What is not in the engine's cache is built before it counts.
        run([*NM, "up", str(LAB), "--backend", "docker"], timeout=900, env=env)
        run([*NM, "down"], timeout=LIMIT_S, env=env)
        for index in range(rounds):
            for kind in ("lab", "compose") if index % 2 == 0 else ("compose", "lab"):
                if kind == "lab":
                    lab.append(lab_starts(env))
                else:
                    compose.append(compose_starts(topology, env))
    return lab, compose


def lab_starts(env: dict[str, str]) -> float:
    """Bring the lab up and take it down; `nm up` returns when the services are ready."""
    start = time.monotonic()
    try:
        run([*NM, "up", str(LAB), "--backend", "docker"], timeout=LIMIT_S, env=env)
        return time.monotonic() - start
    finally:
        run([*NM, "down"], timeout=LIMIT_S, env=env)


def compose_starts(topology: Topology, env: dict[str, str]) -> float:
    """Start the services with Compose, and wait until the checks of the lab's file pass in all of them."""
    start = time.monotonic()
    try:
        run([*COMPOSE, "up", "-d"], timeout=LIMIT_S, env=env)
        for service in topology.services:
            assert service.ready is not None, "each service of the lab has a check"
            check = ["docker", "exec", f"{PROJECT}_{service.name}_1", *service.ready.value]
            while run(check, timeout=LIMIT_S, check=False).exit_code != 0:
                if time.monotonic() > start + LIMIT_S:
                    raise CommandFailed(f"{service.name} did not answer within {LIMIT_S:g} s")
                time.sleep(POLL_S)
        return time.monotonic() - start
    finally:
        run([*COMPOSE, "down", "-t", "1"], timeout=LIMIT_S, env=env)


if __name__ == "__main__":
    sys.exit(main())
