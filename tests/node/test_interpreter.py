"""Test that process-wide settings are restored after a role."""

from __future__ import annotations

import gc
import json
import resource
import sys
import threading
import time
import warnings

import pytest

from orchestrator.node.context import Context
from orchestrator.node.interpreter import Settings


def test_limits_and_settings_are_put_back() -> None:
    def seen() -> list[object]:
        limits = [resource.getrlimit(n) for n in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE)]
        interpreter = [sys.getrecursionlimit(), sys.getswitchinterval(), gc.isenabled(), threading.gettrace()]
        return [*limits, *interpreter, list(warnings.filters)]

    before = seen()
    settings = Settings()
    try:
        soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0 if soft else soft, hard))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 30, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        sys.setrecursionlimit(sys.getrecursionlimit() + 77)
        sys.setswitchinterval(1.0)
        threading.settrace(lambda *_: None)
        gc.disable()
        warnings.simplefilter("error")
        assert seen() != before
    finally:
        settings.restore()
    assert seen() == before
    settings.restore()
    assert seen() == before


def test_functions_that_a_role_replaced_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    code = [
        (json, "dumps"),
        (threading, "Lock"),
        (threading.Thread, "start"),
        (Context, "report"),
        (time, "time"),
    ]
    settings = Settings()
    before = [getattr(owner, name) for owner, name in code]
    for owner, name in code:
        monkeypatch.setattr(owner, name, None)  # undone in any case
    monkeypatch.delattr(Context, "publish")
    settings.restore()
    assert [getattr(owner, name) for owner, name in code] == before
    assert callable(Context.publish)
