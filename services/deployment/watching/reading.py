"""Reading the states of deployments, each as one message for all who are sent it."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Hashable
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations import examine
from services.deployment.operations.details import Detail
from services.deployment.store import dossiers
from services.deployment.watching.streams import State

T = TypeVar("T")
# Makes the message about a deployment.
Render = Callable[[Detail], Any]

# Deployments read by one statement.
CHUNK = 250
# Reads of beginnings at a time, so that changes find free connections.
READS_AT_ONCE = 2


async def states(tx: AsyncConnection, ids: Collection[UUID], render: Render) -> list[State]:
    """Read deployments, with what their gates say, in at most four queries."""
    cases = await examine.several(tx, await dossiers.several(tx, ids))
    return [
        State(case.dossier.id, case.dossier.row_version, render(Detail(case))) for case in cases
    ]


class JointReads:
    """Reads that several want at the same time, made once for all of them.

    Nobody joins a read that has begun, since it may not see what the caller must not miss.
    """

    def __init__(self) -> None:
        """Begin with none."""
        self._turns = asyncio.Semaphore(READS_AT_ONCE)
        self._next: dict[Hashable, asyncio.Task[Any]] = {}
        self._running: set[asyncio.Task[Any]] = set()

    async def read(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        """Return what `make` returns, which is called after this or by somebody with this key."""
        task = self._next.get(key)
        if task is None:
            task = self._next[key] = asyncio.create_task(self._run(key, make), name="watch read")
            self._running.add(task)
            task.add_done_callback(self._done)
        # Shielded: one watcher that goes away must not take it from the others.
        result: T = await asyncio.shield(task)
        return result

    async def close(self) -> None:
        """Wait for what is being read; nobody wants it any more."""
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self, key: Hashable, make: Callable[[], Awaitable[T]]) -> T:
        async with self._turns:
            del self._next[key]
            return await make()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as seen: whoever waited has had it raised
