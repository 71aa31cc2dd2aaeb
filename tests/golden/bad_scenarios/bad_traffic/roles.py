"""Roles."""


def trainer(ctx):
    """Do nothing."""


def worker(ctx):
    """Do nothing."""
