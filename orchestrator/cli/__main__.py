"""`python -m orchestrator.cli` is `nm`."""

from orchestrator.cli import start

if __name__ == "__main__":
    start()
