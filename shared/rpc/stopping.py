"""How work that may take for ever, a stream or a watch, learns that its server is stopping."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, Final, NoReturn, TypeVar

from shared.errors import ServerStopping

T = TypeVar("T")
CANCELLED_AGAIN_S: Final = 2.0


async def unless_stopping(stopping: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """Return what `work` returns; raises ServerStopping, cancelling it, when the server stops.

    For waiting inside a stream: `item = await unless_stopping(stopping, queue.get())`. The client
    then reads UNAVAILABLE with the reason SERVER_STOPPING and continues elsewhere.
    """
    if stopping.is_set():
        work.close()
        raise ServerStopping
    return await unless(work, until_stopping(stopping))


async def until_stopping(stopping: asyncio.Event) -> NoReturn:
    """Wait until the server stops, then raise ServerStopping."""
    await stopping.wait()
    raise ServerStopping


async def unless(work: Coroutine[Any, Any, T], *ends: Coroutine[Any, Any, NoReturn]) -> T:
    """Return what `work` returns; when one of `ends` raises first, cancel it and raise that.

    When both are done at the same moment, `work` counts.
    """
    working = asyncio.ensure_future(work)
    tasks = [working, *map(asyncio.ensure_future, ends)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise next(error for task in tasks if task.done() and (error := task.exception()))
    finally:
        await ended(tasks, CANCELLED_AGAIN_S)
        await asyncio.gather(*tasks, return_exceptions=True)


async def ended(tasks: Sequence[asyncio.Task[Any]], again_s: float) -> None:
    """Cancel tasks until they have ended, again after so many seconds.

    Libraries lose a cancellation that meets what they wait for, such as a connection of a pool; a
    task that was cancelled once would go on for ever.
    """
    while pending := {task for task in tasks if not task.done()}:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=again_s)
