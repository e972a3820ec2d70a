"""What the server remembers of an open page, and when it forgets it.

Gradio keeps each session's values, among them the examination on show, with its radiograph and what was computed of it
(`pneumo.reading`), and the HTML last shown, until the server ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

LIFETIME = 30 * 60
"""Seconds after its last use until an open page's radiograph is forgotten; a closed page's is at once."""
CAPACITY = 64
"""Pages that are remembered; of more, the one longest out of use is forgotten."""
_INTERVAL = 5


@asynccontextmanager
async def forgetting(app: Any) -> AsyncIterator[None]:
    """Forget sessions while the server runs: the lifespan of its application."""
    task = asyncio.create_task(_keep_forgetting(app.state_holder))
    try:
        yield
    finally:
        task.cancel()


def forget(holder: Any) -> None:
    """Drop the sessions of closed and unused pages from Gradio's `StateHolder`."""
    latest = datetime.now() - timedelta(seconds=LIFETIME)
    for key, session in list(holder.session_data.items()):
        if session.is_closed or holder.time_last_used.get(key, latest) <= latest:
            holder.session_data.pop(key, None)
            holder.time_last_used.pop(key, None)


async def _keep_forgetting(holder: Any) -> None:
    while True:
        await asyncio.sleep(_INTERVAL)
        forget(holder)
