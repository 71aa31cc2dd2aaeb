"""Generate the reference pages from the code.

    python -m scripts.reference            write docs/reference/*.md
    python -m scripts.reference --check    change nothing; exit with 1 when a page is out of date

Each module here makes one kind of page from one source: the command line, the tables of keys, the error
tree and the places that raise, the docstrings and stubs of the Python packages.
"""
