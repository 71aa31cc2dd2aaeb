"""Compare the packet path with the kernel's: `python -m benchmarks.dataplane`."""
