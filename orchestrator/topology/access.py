"""The key `controller`: where the lab's controller is reached besides loopback, and with TLS or not."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from orchestrator.errors import Place, UsageError
from orchestrator.fields import Boolean, Field, Kind, ListOf, Table, Text
from orchestrator.source import Problems, Value
from orchestrator.topology.model import Access

__all__ = ["CONTROLLER", "ListenAddress", "build_access", "require_tls_outside", "with_options"]

_PLAIN_HINT = "leave out `listen`, and forward the port of loopback with `ssh -L`"

_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*"


class ListenAddress(Kind):
    """One address of the machine; every address at once (`0.0.0.0`) would have no certificate."""

    expected = "one address of this machine, such as `192.0.2.7`"

    def read(self, value: Value, name: str, problems: Problems) -> str | None:
        """Return the address in its usual form."""
        try:
            if not isinstance(value.data, str):
                raise ValueError
            address = ipaddress.ip_address(value.data)
            if address.is_unspecified or address.is_multicast or "%" in value.data:
                raise ValueError
        except ValueError:
            self.wrong(value, name, problems)
            return None
        return str(address)

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        return {"type": "string", "examples": ["192.0.2.7"]}


CONTROLLER = Table(
    "controller",
    {
        "listen": Field(
            ListenAddress(), "an address of this machine where the controller is reached, besides loopback"
        ),
        "tls": Field(
            Boolean(),
            "whether connections to the controller are in TLS; so they are unless said otherwise where "
            "`listen` is not a loopback address",
        ),
        "names": Field(
            ListOf(Text(_HOST_NAME, "a host name such as `lab.example.org`"), "name"),
            "further host names in the controller's certificate",
        ),
    },
)


def with_options(access: Access, tls: bool | None, listen: str | None) -> Access:
    """Return the access with what the options `--tls` and `--listen` say instead.

    Raises:
        UsageError: The address cannot be listened on (`usage.listen`).
    """
    if listen is not None:
        problems = Problems("usage")
        place = Place("--listen")
        read = ListenAddress().read(Value(listen, place, listen), "the address", problems)
        for problem in problems:
            raise UsageError(problem.message, id="usage.listen", found=listen, expected=problem.expected)
        access = replace(access, listen=read or "")
    return access if tls is None else replace(access, tls=tls)


def require_tls_outside(access: Access) -> None:
    """Check that other machines reach the controller over TLS, or not at all.

    Raises:
        UsageError: They reach it without (`usage.plain-controller`).
    """
    if access.is_plain_outside:
        raise UsageError(
            f"the controller would listen on {access.listen} without TLS, and its tokens could be read",
            id="usage.plain-controller",
            found="no TLS",
            expected="TLS, or no other address than loopback",
            hint=_PLAIN_HINT,
        )


def build_access(value: Value, read: Mapping[str, Any], problems: Problems) -> Access:
    """Return what the key says; refused is an address outside of the machine without TLS."""
    access = Access(
        listen=read.get("listen", ""), tls=read.get("tls"), names=tuple(dict.fromkeys(read.get("names", ())))
    )
    if access.is_plain_outside:
        problems.add(
            f"`controller` listens on {access.listen} without TLS, and its tokens could be read",
            "plain-controller",
            value.place_of("controller", "tls"),
            found="tls: false",
            expected="`tls: true`",
            hint=_PLAIN_HINT,
        )
    return access
