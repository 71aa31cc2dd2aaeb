"""Listening sockets are looked for in the namespace of a service, and in no other."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from orchestrator.deploy.native.listening import listening

LISTEN = """
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(0x40000000 | (0x10000000 if os.geteuid() else 0)):
    sys.exit(77)
server = socket.create_server(("0.0.0.0", 4321))
print("listens", flush=True)
sys.stdin.read()
"""


def test_a_socket_of_our_own_namespace_is_nobodys() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert listening(os.getpid(), server.getsockname()[1]) is False


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    assert listening(2**22 + 1, 80) is None


def test_a_socket_in_another_namespace_is_seen_at_its_port() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        said = process.stdout.readline()
        if said != "listens\n":
            pytest.skip("this machine lets nobody make a network namespace")
        assert listening(process.pid, 4321) is True
        assert listening(process.pid, 4322) is False
        process.stdin.close()
