"""Labs at hundreds and thousands of nodes: `python -m benchmarks.scale`."""
