"""The simulated network of the native module, for the orchestrator; programs in nodes have no use for it."""

from __future__ import annotations

from nextmini_py import _native

__all__ = ["Simulation"]

Simulation = _native.Simulation
