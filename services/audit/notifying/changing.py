"""Changes of webhooks: each one transaction, with its entry, and repeatable by its request id."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.engine import Database
from shared.outbox.repeats import Memory

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Asked:
    """How a change was asked for: where its answer is kept, if it is, and whether to only try."""

    memory: Memory | None = None
    validate_only: bool = False


class _OnlyRehearsed(Exception):
    """Leaves a transaction so that it is taken back."""


class Changing:
    """Makes changes of webhooks."""

    def __init__(self, database: Database) -> None:
        """Take a database under the notifier's role."""
        self._database = database
        self._running: set[asyncio.Task[bytes]] = set()

    async def answer(
        self,
        asked: Asked,
        work: Callable[[AsyncConnection], Awaitable[Result]],
        encode: Callable[[Result], bytes],
    ) -> bytes:
        """Do the work and return its encoded result, or the first answer of a repeated call.

        What was begun runs to its end although its caller goes away, so that no transaction is left
        half way.
        """
        task = asyncio.create_task(self._transact(asked, work, encode), name="webhook change")
        self._running.add(task)
        task.add_done_callback(self._forget)
        return await asyncio.shield(task)

    async def settle(self) -> None:
        """Wait for changes whose callers have gone away."""
        await asyncio.gather(*self._running, return_exceptions=True)

    def _forget(self, task: asyncio.Task[bytes]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as seen; the caller who waited has had it raised

    async def _transact(
        self,
        asked: Asked,
        work: Callable[[AsyncConnection], Awaitable[Result]],
        encode: Callable[[Result], bytes],
    ) -> bytes:
        encoded = b""
        with suppress(_OnlyRehearsed):
            async with self._database.transaction() as tx:
                if asked.memory and (stored := await asked.memory.recall(tx)) is not None:
                    return stored
                encoded = encode(await work(tx))
                if asked.validate_only:
                    raise _OnlyRehearsed
                if asked.memory:
                    await asked.memory.store(tx, encoded)
        return encoded
