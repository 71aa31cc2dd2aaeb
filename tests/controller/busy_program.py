"""Stands for the program that acts on the processes of nodes, of a lab that another command holds."""

from __future__ import annotations

import sys

if __name__ == "__main__":
    sys.exit("lab ring is held by `nm up`")
