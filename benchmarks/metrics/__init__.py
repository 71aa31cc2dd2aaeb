"""Measure what metrics cost: the controller of 1,000 nodes, and the throughput of a path."""
