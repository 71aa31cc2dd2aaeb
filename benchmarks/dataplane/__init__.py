"""The packet path beside the kernel's own: `python -m benchmarks.dataplane`."""
