"""Make the fakes of this folder importable."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.node.fakes")
