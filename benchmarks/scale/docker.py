"""Target 14: a docker lab compared with as many idle containers, measured alternately."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from benchmarks import labs
from benchmarks.labs import topology
from benchmarks.program import Notify
from benchmarks.scale.containers import node_image, start_idle
from benchmarks.scale.figures import Figure

__all__ = ["against_idle_containers"]

_UP_SECONDS = 300.0
_BUILD_SECONDS = 900.0
_TARGET_NODES = 20


def against_idle_containers(nodes: int, repeats: int, notify: Notify) -> Iterator[Figure]:
    """Measure `nm up` of a docker ring and a parallel start of idle containers, interleaved.

    Raises:
        NotRunnable: No engine answers, or a docker lab cannot run here.
    """
    with labs.lab(topology("line", n_nodes=2), backend="docker", timeout=_BUILD_SECONDS):
        pass  # builds the images where they are missing, so that no measured start has to
    image = node_image()
    ups: list[float] = []
    downs: list[float] = []
    idles: list[float] = []
    for _ in range(repeats):
        idles.append(start_idle(nodes, image))
        with labs.lab(topology("ring", n_nodes=nodes), backend="docker", timeout=_UP_SECONDS) as running:
            ups.append(running.up_seconds)
            downs.append(running.down())
        notify(f"  docker, {nodes} nodes: up {ups[-1]:.1f} s, idle containers {idles[-1]:.1f} s")
    ratios = tuple(up / idle for up, idle in zip(ups, idles, strict=True))
    how = f"median of {repeats}"
    yield Figure(f"`nm up`, docker, ring of {nodes}", median(ups), "s", how, None, tuple(ups))
    yield Figure(f"`nm down`, docker, ring of {nodes}", median(downs), "s", how, None, tuple(downs))
    title = f"`docker run` of {nodes} idle containers in parallel"
    yield Figure(title, median(idles), "s", how, None, tuple(idles))
    target = 14 if nodes == _TARGET_NODES else None
    paired = f"median of {repeats} paired ratios"
    yield Figure("docker: `nm up` / idle containers", median(ratios), "ratio", paired, target, ratios)
