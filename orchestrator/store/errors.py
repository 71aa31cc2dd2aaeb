"""Errors of the store."""

from __future__ import annotations

from orchestrator.errors import StoreUnavailable

__all__ = ["SchemaTooNew", "StoreUnavailable"]


class SchemaTooNew(StoreUnavailable):
    """The database was made by a newer release."""

    id = "store.schema"
