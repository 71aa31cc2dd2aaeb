"""Fuzz values, texts and control messages in Python, for any time.

    python -m scripts.fuzz_values [SECONDS]

Runs the same properties as the test suite, with many examples and a new seed each time round. What fails is
printed as an `@example` to be added to the test, where it stays.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time

PROPERTIES = (
    "tests/test_values.py::test_whatever_passes_survives_msgpack_and_json_and_whatever_does_not_is_refused",
    "tests/test_values.py::test_a_safe_text_is_utf8_of_bounded_size",
    "tests/protocol/test_codec.py::test_arbitrary_bytes_never_crash_the_decoder",
    "tests/protocol/test_codec.py::test_a_body_of_any_kind_is_a_message_or_named_as_wrong",
    "tests/protocol/test_codec.py::test_a_field_of_any_kind_is_taken_or_named_as_wrong",
)
EXAMPLES = 1_000
"""Examples of each property in one round: a minute or so."""


def main() -> int:
    """Fuzz for the seconds given, ten minutes unless said otherwise."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 600.0
    ends = time.monotonic() + seconds
    rounds = 0
    environment = {**os.environ, "NM_FUZZ_EXAMPLES": str(EXAMPLES)}
    while time.monotonic() < ends:
        rounds += 1
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "--timeout=0",
            "--hypothesis-seed",
            str(time.time_ns()),
        ]
        done = subprocess.run([*command, *PROPERTIES], env=environment, check=False)
        if done.returncode != 0:
            return done.returncode
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        print(f"round {rounds}: {EXAMPLES} examples of each property, at most {peak} MiB", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
