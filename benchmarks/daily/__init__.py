"""Measure what users wait for every day: `python -m benchmarks.daily`."""
