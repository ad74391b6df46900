"""Hearing of changes: the one connection of a replica that listens for notifications.

It never opens a transaction, because PostgreSQL keeps notifications until every listener has taken
them. A connection whose other end has gone away without a word is found by asking now and then.
"""

import asyncio
from collections.abc import Callable, Collection
from contextlib import suppress
from uuid import UUID

import structlog

from shared.db.engine import Database
from shared.outbox.announcing import CHANNELS, MANY, SEPARATOR

CHANNEL = CHANNELS["deployment"]
ALIVE_EVERY_S = 5.0
ALIVE_WITHIN_S = 2.0
SHORTEST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0

log = structlog.get_logger(__name__)


class Listener:
    """Keeps a connection that listens, however often it is lost."""

    def __init__(
        self,
        db: Database,
        on_changed: Callable[[Collection[UUID]], None],
        on_gap: Callable[[], None],
    ) -> None:
        """Call `on_changed` with ids, and `on_gap` when anything may have changed unheard."""
        self._db = db
        self._on_changed = on_changed
        self._on_gap = on_gap
        self._pause = SHORTEST_PAUSE_S

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except Exception as error:  # noqa: BLE001  (whatever it is: connect again)
                log.warning("listening_failed", error=repr(error))
            await asyncio.sleep(self._pause)
            self._pause = min(self._pause * 2, LONGEST_PAUSE_S)

    async def _listen(self) -> None:
        async with self._db.session() as connection:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _connection: lost.set())
            await connection.add_listener(CHANNEL, self._heard)
            self._pause = SHORTEST_PAUSE_S
            self._on_gap()
            while not lost.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(ALIVE_EVERY_S):
                        await lost.wait()
                if not lost.is_set():
                    await connection.execute("SELECT 1", timeout=ALIVE_WITHIN_S)
        log.warning("listening_lost")

    def _heard(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        said = str(payload)
        if said == MANY:
            self._on_gap()
            return
        try:
            ids = [UUID(word) for word in said.split(SEPARATOR)]
        except ValueError:  # anybody with a login may notify
            self._on_gap()
        else:
            self._on_changed(ids)
