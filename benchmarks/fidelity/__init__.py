"""Compare what links do with what is requested: `python -m benchmarks.fidelity`."""
