"""How work that may take for ever, a stream or a watch, learns that its server is stopping."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from shared.errors import ServerStopping

T = TypeVar("T")


async def unless_stopping(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; raises ServerStopping, cancelling it, when the server stops.

    For waiting inside a stream: `item = await unless_stopping(stopping, queue.get())`. The client
    then reads UNAVAILABLE with the reason SERVER_STOPPING and continues elsewhere.
    """
    if stopping.is_set():
        work.close()
        raise ServerStopping
    working = asyncio.ensure_future(work)
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((working, stop), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ServerStopping
    finally:
        for task in (working, stop):
            task.cancel()
        await asyncio.gather(working, stop, return_exceptions=True)
