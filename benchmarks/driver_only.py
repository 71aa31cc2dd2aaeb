"""Measure the Rust driver alone (example `tun_pair`).

Compared with a full lab this separates a slowdown of the packet path from one caused by the controller or
Python. Run only when named; it decides no target.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path as FilePath

from benchmarks.commands import Background, run
from benchmarks.errors import CommandFailed, NotRunnable
from benchmarks.namespaces import PREFIX
from benchmarks.paths import Endpoint, Path

__all__ = ["line"]

_ROOT = FilePath(__file__).resolve().parent.parent
_PROGRAM = _ROOT / "dataplane" / "target" / "release" / "examples" / "tun_pair"
_BUILD = "cargo build --release -p nm-driver --example tun_pair"
_SECONDS = 30.0
_numbers = itertools.count(1)


@contextlib.contextmanager
def line(nodes: int, *options: str) -> Iterator[Path]:
    """Yield the path from the first to the last node of a line.

    Args:
        nodes: Nodes of the line; the path has one hop less.
        options: Further options of the example, such as `--offload off`.

    Raises:
        NotRunnable: The example is not built, or does not start here.
    """
    if not _PROGRAM.exists():
        raise NotRunnable(f"the example is not built (`{_BUILD}` in dataplane/)")
    prefix = f"{PREFIX}-{os.getpid()}-bare{next(_numbers)}-"
    words = [str(_PROGRAM), "--nodes", str(nodes), "--prefix", prefix, *options]
    try:
        # It reports readiness on standard error.
        with Background(["sh", "-c", 'exec "$0" "$@" 2>&1', *words]) as process:
            try:
                process.wait_for_line("ready:", timeout=_SECONDS)
            except CommandFailed as error:
                raise NotRunnable(str(error)) from error
            yield Path(
                name=f"bare-{nodes}",
                sender=_endpoint(prefix, 1),
                receiver=_endpoint(prefix, nodes),
                hops=nodes - 1,
                relays=lambda: [process.popen.pid],
            )
            with contextlib.suppress(CommandFailed):
                process.finish(timeout=_SECONDS)
    finally:
        for node in range(1, nodes + 1):
            if FilePath(f"/run/netns/{prefix}{node}").exists():
                run(["ip", "netns", "delete", f"{prefix}{node}"], timeout=_SECONDS, check=False)


def _endpoint(prefix: str, node: int) -> Endpoint:
    return Endpoint(("nsenter", f"--net=/run/netns/{prefix}{node}", "--"), f"10.0.0.{node}", "utun")
