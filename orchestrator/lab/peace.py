"""Let clean-up come to its end."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


async def in_peace(work: Coroutine[Any, Any, object]) -> None:
    """Run clean-up to its end, however often somebody presses Ctrl-C meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                return
        except Exception:
            return  # what went wrong first is what the user needs to hear; `nm down` says the rest
