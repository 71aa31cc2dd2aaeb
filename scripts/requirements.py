"""Print the requirements of `pyproject.toml`, one a line, so that pip can install them without
building us.

Arguments name the lists: `build` (the build backend), or an extra; the dependencies always come along.
"""

import sys
import tomllib
from pathlib import Path

pyproject = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text())
wanted = list(pyproject["project"]["dependencies"])
for name in sys.argv[1:]:
    if name == "build":
        wanted += pyproject["build-system"]["requires"]
    else:
        wanted += pyproject["project"]["optional-dependencies"][name]
print("\n".join(dict.fromkeys(wanted)))
