"""Lossless transfers in which a node is killed and restarted: `python -m benchmarks.transfers`.

draw      transfers, victims and moments of the kills, from one seed
program   the program of one node: it sends and receives, and writes what it received to the disk
labs      carries out the cases in one lab and checks the results
"""
