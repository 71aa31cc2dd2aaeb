"""Lossless transfers in which a node is killed and restarted: `python -m benchmarks.transfers`.

draw      what is transferred, who is killed, and when: all from one seed
program   the program of one node: it sends and receives, and writes what it received to the disk
labs      one lab through one transfer after the other, and what has to hold of each
"""
