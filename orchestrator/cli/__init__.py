"""The command line: one file per noun, each a thin caller of `orchestrator.lab`.

A command's file imports only Typer at its top; what the command needs it imports when it runs, so that `nm
--help` does not wait for Docker's SDK. Data goes to stdout and nothing else does; talk, progress and errors
go to stderr.
"""
