"""Draw what was requested of a link and what was measured, from a run of the scenario `changing-link`.

    python -m scripts.plot_changing_link results/RUN docs/assets/changing-link.svg

Requested values are those of the topology and of the timeline's events, measured ones the rows of the roles.
The picture names the run and its versions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from orchestrator import topology

WIDTH, PANEL, LEFT, TOP, GAP = 860, 150, 70, 46, 42
REQUESTED, MEASURED = "#c2410c", "#1d4ed8"

Points = list[tuple[float, float]]


def main(argv: Sequence[str]) -> None:
    """Read a run's folder and write the picture."""
    run, target = Path(argv[0]), Path(argv[1])
    target.write_text(draw(run))


def draw(run: Path) -> str:
    """Return the picture of a run as SVG."""
    rows = json.loads((run / "rows.json").read_text())
    document = json.loads((run / "run.json").read_text())
    received = [row for row in rows if row["role"] == "receiver"]
    probes = [row for row in rows if row["role"] == "sender"]
    end = float(document["params"]["duration"])
    states = requested(run)
    throughput = [(row["t"], row["mbit_per_s"]) for row in received]
    times = [(row["t"], row["rtt_ms_min"]) for row in probes if row["rtt_ms_min"] is not None]
    panels = [
        ("rate, Mbit/s", steps(states, lambda x: x["rate_bps"] / 1e6, end), throughput, "TCP bytes received"),
        ("round trip, ms", steps(states, lambda x: x["delay_us"] / 500, end), times, "shortest of a probe"),
        ("loss, %", steps(states, lambda x: x.get("loss", 0) * 100, end), losses(probes), "probes, 1 s"),
    ]
    height = TOP + len(panels) * (PANEL + GAP) + 10
    versions = document["versions"]
    title = (
        f"{document['run']} · nm {versions['nm']}, kernel {versions['kernel']} · {document['started'][:10]}"
    )
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{height}" fill="white"/>',
        f'<text x="{LEFT}" y="18">{title}</text>',
        f'<text x="{LEFT}" y="34" fill="{REQUESTED}">requested</text>',
        f'<text x="{LEFT + 70}" y="34" fill="{MEASURED}">measured</text>',
    ]
    for number, (name, wanted, measured, how) in enumerate(panels):
        parts += panel(TOP + number * (PANEL + GAP), f"{name} ({how})", wanted, measured, end)
    return "\n".join([*parts, "</svg>", ""])


def requested(run: Path) -> list[tuple[float, dict[str, Any]]]:
    """Return what was in force from node 1 to node 2, and since when the nodes had confirmed it."""
    found = [(0.0, topology.load(run / "topology.yaml").links[0].forward.to_wire())]
    for line in (run / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["kind"] == "timeline" and event["data"]["change"].get("spec"):
            data = event["data"]
            found.append((data["applied_s"], {**found[-1][1], **data["change"]["spec"]}))
    return found


def steps(
    states: list[tuple[float, dict[str, Any]]], value: Callable[[dict[str, Any]], float], end: float
) -> Points:
    """Return the corners of a line that keeps each value until the next."""
    points: Points = []
    for number, (since, state) in enumerate(states):
        until = states[number + 1][0] if number + 1 < len(states) else end
        points += [(since, value(state)), (until, value(state))]
    return points


def losses(probes: list[dict[str, Any]]) -> Points:
    """Return the share of probes without an answer, in per cent, of each second."""
    seconds: dict[int, list[int]] = {}
    for row in probes:
        sums = seconds.setdefault(int(row["t"] - 1e-6), [0, 0])
        sums[0] += row["probes"]
        sums[1] += row["answered"]
    return [(second + 0.5, 100 * (1 - got / sent)) for second, (sent, got) in sorted(seconds.items()) if sent]


def panel(top: float, name: str, wanted: Points, measured: Points, end: float) -> list[str]:
    """Return one diagram over time."""
    most = max(value for _, value in (*wanted, *measured)) * 1.1 or 1.0
    right = WIDTH - 20

    def at(time: float, value: float) -> str:
        return f"{LEFT + (right - LEFT) * time / end:.1f},{top + PANEL - PANEL * value / most:.1f}"

    def line(points: Points, colour: str, width: float) -> str:
        corners = " ".join(at(*point) for point in points if point[0] <= end + 0.01)
        return f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="{width}"/>'

    parts = [
        f'<rect x="{LEFT}" y="{top}" width="{right - LEFT}" height="{PANEL}" fill="none" stroke="#999"/>',
        f'<text x="{LEFT + 6}" y="{top + 14}">{name}</text>',
    ]
    for share in (0, 0.5, 1):
        y = top + PANEL * (1 - share) + 4
        parts.append(f'<text x="{LEFT - 6}" y="{y:.0f}" text-anchor="end">{most * share:.3g}</text>')
    for second in range(0, int(end) + 1, 5):
        x = LEFT + (right - LEFT) * second / end
        parts.append(f'<text x="{x:.0f}" y="{top + PANEL + 15}" text-anchor="middle">{second} s</text>')
    return [*parts, line(wanted, REQUESTED, 2.5), line(measured, MEASURED, 1.2)]


if __name__ == "__main__":
    main(sys.argv[1:])
