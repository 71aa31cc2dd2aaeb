"""What a user waits for every day: `python -m benchmarks.daily`."""
