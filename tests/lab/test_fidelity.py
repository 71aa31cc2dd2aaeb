"""Test that no run fails because its links were not measured."""

from __future__ import annotations

from typing import Any, cast

import pytest

from orchestrator.errors import NmError
from orchestrator.fidelity import Snapshot
from orchestrator.lab import fidelity
from orchestrator.transport import Connection
from tests.lab.conftest import MakeLab


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), NmError("it is away")])
async def test_an_error_of_any_kind_leaves_the_links_not_measured(
    make_lab: MakeLab, monkeypatch: pytest.MonkeyPatch, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def measured(_connection: Connection) -> Snapshot:
        return Snapshot()

    async def fails(*_: Any) -> Any:
        raise error

    caplog.set_level("INFO")
    run = fidelity.RunFidelity(*make_lab())
    monkeypatch.setattr(fidelity, "measure", fails)
    await run.begin(cast(Connection, None))
    assert await run.end() == fidelity.NOT_MEASURED
    monkeypatch.setattr(fidelity, "measure", measured)
    await run.begin(cast(Connection, None))
    monkeypatch.setattr(fidelity, "dial", fails)
    assert await run.end() == fidelity.NOT_MEASURED
    assert [record.getMessage() for record in caplog.records] == ["fidelity.not-measured"] * 2
