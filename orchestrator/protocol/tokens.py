"""Derive each node's token from the lab's key, and compare tokens in constant time.

A token is derived from a key that only the controller has. The controller needs no list of tokens, and a
leaked token of one node is valid for that node alone.
"""

from __future__ import annotations

import hashlib
import hmac

__all__ = ["TOKEN_FILE", "node_token", "token_matches"]

TOKEN_FILE = "operator-token"
"""The file of a run directory that holds the operator's token alone, for programs that use the REST API."""

_PURPOSE = b"nm node token"


def node_token(key: str, node: int) -> str:
    """Return the token of a node: HMAC-SHA256 (RFC 2104) under the lab's key, as 64 hexadecimal digits."""
    return hmac.new(key.encode(), _PURPOSE + str(node).encode(), hashlib.sha256).hexdigest()


def token_matches(found: str, expected: str) -> bool:
    """Compare a token in a time that does not depend on where it is wrong; nothing matches an empty one."""
    return hmac.compare_digest(found.encode(errors="replace"), expected.encode()) and bool(expected)
