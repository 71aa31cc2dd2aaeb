"""Compare transfers of a program that is attached to its node with those of the node's own process."""
