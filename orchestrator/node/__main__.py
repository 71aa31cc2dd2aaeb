"""Start the node agent: `python -m orchestrator.node FILE…` or `--directory LAB --nodes 1-4`."""

from __future__ import annotations

import sys

from orchestrator.node.service import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
