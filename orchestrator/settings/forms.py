"""Kinds of values that both settings files use."""

from __future__ import annotations

import ipaddress
from typing import Any

from orchestrator.fields import Kind
from orchestrator.source import Problems, Value

__all__ = ["PORT_MOST", "Address", "Certificate"]

PORT_MOST = 65_535


class Address(Kind):
    """An IPv4 address in dotted form."""

    expected = "an IPv4 address"

    def read(self, value: Value, name: str, problems: Problems) -> str | None:
        """Return the address as text once it is known to be one."""
        try:
            if not isinstance(value.data, str):
                raise ValueError
            return str(ipaddress.IPv4Address(value.data))
        except ValueError:
            self.wrong(value, name, problems)
            return None

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        return {"type": "string", "format": "ipv4"}


class Certificate(Kind):
    """Certificates as text, in the form that is called PEM."""

    expected = "a certificate in PEM form, which begins with `-----BEGIN CERTIFICATE-----`"

    def read(self, value: Value, name: str, problems: Problems) -> str | None:
        """Return the text; empty for none."""
        text = value.data
        if isinstance(text, str) and (not text or text.lstrip().startswith("-----BEGIN CERTIFICATE-----")):
            return text
        self.wrong(value, name, problems)
        return None

    def schema(self) -> dict[str, Any]:
        """Return the kind as JSON Schema."""
        return {"type": "string"}
