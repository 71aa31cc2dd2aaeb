"""Wait until a service accepts connections: `probe.py tcp|http VALUE TIMEOUT INTERVAL ADDRESS…`.

It runs inside a node, with the standard library alone, and ends with 0 once the service answers; otherwise
with 1, after it has printed why. `tcp` tries each of the addresses; `http` takes the URL as it is, and where
its host is 127.0.0.1 the addresses as well.
"""

from __future__ import annotations

import socket
import sys
import time

ATTEMPT_S = 5.0
"""How long one attempt may take."""


def tcp(port: int, addresses: list[str]) -> str:
    """Try to connect; return why it is not possible, empty if it is."""
    reason = ""
    for address in addresses:
        try:
            with socket.create_connection((address, port), timeout=ATTEMPT_S):
                return ""
        except OSError as error:
            reason = f"{address}:{port}: {error.strerror or error}"
    return reason


def http(url: str, addresses: list[str]) -> str:
    """Ask for a page; return what is wrong, empty if the status is from 200 to 399."""
    import http.client
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    reason = ""
    for address in addresses if host == "127.0.0.1" else [host]:
        connection = http.client.HTTPConnection(address, port, timeout=ATTEMPT_S)
        try:
            connection.request("GET", (parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
            status = connection.getresponse().status
            if 200 <= status < 400:
                return ""
            return f"http://{address}:{port}{parts.path} answers with status {status}"
        except (OSError, http.client.HTTPException) as error:
            reason = f"{address}:{port}: {getattr(error, 'strerror', None) or error}"
        finally:
            connection.close()
    return reason


def main(words: list[str]) -> int:
    """Try until it works or the time is over; returns the exit code."""
    kind, value, timeout, interval, *addresses = words
    deadline = time.monotonic() + float(timeout)
    while True:
        reason = tcp(int(value), addresses) if kind == "tcp" else http(value, addresses)
        if not reason:
            return 0
        if time.monotonic() >= deadline:
            print(reason)
            return 1
        time.sleep(float(interval))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
