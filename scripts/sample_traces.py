"""Write the sample traces in `topologies/traces/`: `python -m scripts.sample_traces`.

They are no recordings. `cellular-down.mahi` and `cellular-up.mahi` have the rates of a formula, with outages
like those of a handover; every opportunity is at the first millisecond at which the sum of the rate so far is
1,504 bytes more. `handover.csv` is a satellite link whose delay steps every 15 s.
"""

from __future__ import annotations

import math
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[1] / "topologies" / "traces"
LENGTH_MS = 20_000
OPPORTUNITY_BITS = 1_504 * 8


def rate_mbit(ms: int, mean: float) -> float:
    """Return the rate of a cellular link: waves of 8 s and 1.7 s around a mean, none from 12 s to 12.4 s."""
    if 12_000 <= ms < 12_400:
        return 0.0
    slow = math.sin(2 * math.pi * ms / 8_000)
    fast = math.sin(2 * math.pi * ms / 1_700)
    return mean * (1 + 0.5 * slow + 0.3 * fast)


def cellular(mean: float) -> str:
    """Return a packet delivery file of 20 s."""
    bits, lines = 0.0, []
    for ms in range(LENGTH_MS):
        bits += rate_mbit(ms, mean) * 1_000
        while bits >= OPPORTUNITY_BITS:
            bits -= OPPORTUNITY_BITS
            lines.append(f"{ms + 1}\n")
    lines.append(f"{LENGTH_MS}\n")
    return "".join(lines)


def handover() -> str:
    """Return rows of 60 s: every 15 s another delay, after 100 ms with a tenth of the rate and more loss."""
    rows = ["time_s,rate,delay,loss"]
    for step, delay_ms in enumerate((28, 41, 33, 24)):
        rows.append(f"{15 * step},8 Mbit,{delay_ms} ms,2 %")
        rows.append(f"{15 * step + 0.1},80 Mbit,{delay_ms} ms,0.1 %")
    rows.append("60,8 Mbit,28 ms,2 %")
    return "\n".join(rows) + "\n"


FILES = {
    "cellular-down.mahi": lambda: cellular(6.0),
    "cellular-up.mahi": lambda: cellular(1.5),
    "handover.csv": handover,
}


def main() -> None:
    """Write all files."""
    DIRECTORY.mkdir(exist_ok=True)
    for name, make in FILES.items():
        (DIRECTORY / name).write_text(make(), encoding="utf-8")


if __name__ == "__main__":
    main()
