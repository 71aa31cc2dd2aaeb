"""Write the recordings in `docs/assets/`: `python -m scripts.recordings`, as root.

A ring of four nodes carries one TCP stream, and `nm top` is read twice a second. `top.svg` goes through its
views; `route-change.svg` shows the links and what iperf3 says while the route of the stream changes twice. A
recording is an SVG whose frames follow each other; where motion is not wanted it shows the last one.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from html import escape
from io import StringIO
from pathlib import Path

from rich.console import Console

from orchestrator.cli.top import _Screen
from orchestrator.deploy.home import Home
from orchestrator.lab import Lab

ASSETS = Path(__file__).resolve().parents[1] / "docs" / "assets"
TOPOLOGY = """\
name: ring
topology: {type: ring, n_nodes: 4}
defaults: {link: {rate: 100 Mbit, delay: 2 ms}}
routes:
  - {from: 1, to: 3, path: [1, 2, 3]}
metrics: {interval: 500 ms}
"""
FRAME_S = 0.5
FRAMES = 26
COLUMNS, LINES = 120, 16
"""Characters of a frame."""

CHARACTER, LINE = 7.3, 17
"""Pixels of a character of the font in use, and of a line."""

COMMANDS = 2
"""Lines of commands under the table."""


def main() -> int:
    """Record both and write them."""
    with tempfile.TemporaryDirectory(prefix="nm-recording-") as folder:
        Path(folder).chmod(0o755)  # the database's user needs access
        home = Home(Path(folder) / "home")
        topology = Path(folder) / "ring.yaml"
        topology.write_text(TOPOLOGY, encoding="utf-8")
        with Lab.up(topology, backend="native", home=home) as lab:
            log = Path(folder) / "iperf3.log"
            lab.node(3).run(["iperf3", "-s", "-1", "-D"])
            client = f"iperf3 -c node-3 -t {2 * FRAMES * FRAME_S + 3:g} --forceflush >{log}"
            with ThreadPoolExecutor(1) as threads:
                running = threads.submit(lab.node(1).run, ["sh", "-c", client])
                record(lab, log)
                running.result()
    return 0


def record(lab: Lab, log: Path) -> None:
    """Record a lab in which iperf3 runs."""
    views = _Screen(lab, "links", LINES)
    write("top.svg", frames(views, views_in_turn(views)))
    links = _Screen(lab, "links", 4)
    write("route-change.svg", frames(links, changes(lab), log))


def views_in_turn(screen: _Screen) -> Callable[[int], str]:
    """Return what presses a key where it is due, and the text about it."""
    keys = {6: ("f", "flows"), 12: ("n", "nodes"), 18: ("o", "another order"), 22: ("l", "links")}

    def at(number: int) -> str:
        if number not in keys:
            return ""
        key, meaning = keys[number]
        screen.press(key)
        return f"key {key}: {meaning}"

    return at


def changes(lab: Lab) -> Callable[[int], str]:
    """Return what changes the route where it is due, and the command that does the same."""
    routes = [lab.routes.list()[0].id]

    def at(number: int) -> str:
        if number not in (6, 16):
            return ""
        path = [1, 4, 3] if number == 6 else [1, 2, 3]
        routes.append(lab.routes.add(path).id)
        lab.routes.remove(routes[-2])
        return f"$ nm route add {','.join(map(str, path))}; nm route del {routes[-2]}"

    return at


def frames(screen: _Screen, event: Callable[[int], str], log: Path | None = None) -> list[list[str]]:
    """Return the lines of each frame."""
    found: list[list[str]] = []
    said: list[str] = []
    begin = time.monotonic()
    for number in range(FRAMES):
        time.sleep(max(0.0, begin + number * FRAME_S - time.monotonic()))
        if text := event(number):
            said.append(text)
        screen.update()
        console = Console(width=COLUMNS, record=True, file=StringIO())
        console.print(screen.render(LINES if log is None else 9))
        lines = [line.rstrip() for line in console.export_text().splitlines()]
        if log is None:
            lines = lines[: LINES - COMMANDS]
            lines += [""] * (LINES - COMMANDS - len(lines)) + said[-1:]
        else:
            said_by_iperf = log.read_text(encoding="utf-8").splitlines()
            intervals = [line for line in said_by_iperf if line.startswith("[") and "/sec" in line]
            lines = [*lines[:9], *said[-COMMANDS:], *[""] * (COMMANDS - len(said)), "", *intervals[-3:]]
        found.append(lines)
    return found


def write(name: str, recorded: Sequence[Sequence[str]]) -> None:
    """Write frames as an SVG."""
    width, height = round(COLUMNS * CHARACTER + 20), LINES * LINE + 20
    seconds = len(recorded) * FRAME_S
    share = 100 / len(recorded)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"'
        ' font-family="DejaVu Sans Mono, Menlo, Consolas, monospace" font-size="12">',
        "<style>",
        f"@keyframes shown {{0%, {share:.3f}% {{visibility: visible}}"
        f" {share + 0.001:.3f}%, 100% {{visibility: hidden}}}}",
        f"g {{visibility: hidden; animation: shown {seconds:g}s steps(1) infinite}}",
        "@media (prefers-reduced-motion: reduce) {g {animation: none} g:last-of-type {visibility: visible}}",
        "</style>",
        f'<rect width="{width}" height="{height}" rx="6" fill="#1e1e1e"/>',
    ]
    for number, lines in enumerate(recorded):
        parts.append(f'<g fill="#d4d4d4" style="animation-delay: {number * FRAME_S:g}s">')
        for place, line in enumerate(lines):
            if line:
                strong = place == 0 or line.startswith(("$", "key "))
                weight = ' font-weight="bold" fill="#fff"' if strong else ""
                parts.append(
                    f'<text x="10" y="{20 + place * LINE}" xml:space="preserve"{weight}>{escape(line)}</text>'
                )
        parts.append("</g>")
    parts.append("</svg>")
    ASSETS.joinpath(name).write_text("\n".join(parts) + "\n", encoding="utf-8")
    print(f"wrote docs/assets/{name}")


if __name__ == "__main__":
    sys.exit(main())
