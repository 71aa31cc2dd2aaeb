"""Errors of the store."""

from __future__ import annotations

from orchestrator.errors import NmError, StoreUnavailable

__all__ = ["RowRefused", "SchemaTooNew", "StoreUnavailable"]


class SchemaTooNew(StoreUnavailable):
    """The database was made by a newer release."""

    id = "store.schema"


class RowRefused(NmError):
    """The database does not take a row, by one of its constraints."""

    id = "store.row"
