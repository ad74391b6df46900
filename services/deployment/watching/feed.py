"""What has changed, read once for all streams of a process: when told, and every few seconds.

One batch is read after the other, so that no later one is of an earlier moment. A look asks for
everything changed since the last look, and a while before: a transaction that takes its time is
seen only when it commits, with the times at which it wrote.
"""

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from itertools import islice
from uuid import UUID

import structlog

from services.deployment.store import watched
from services.deployment.store.watched import Header
from services.deployment.watching.reading import CHUNK, Render, states
from services.deployment.watching.streams import Streams
from shared.db.engine import Database

LOOK_EVERY_S = 4.0
AGAIN_S = 0.5
# However often something changes, it is not read more often than this.
BETWEEN_S = 0.01
# Longer than any transaction of ours: its statements and its waits for locks have limits.
LATE = timedelta(minutes=2)

log = structlog.get_logger(__name__)


class Feed:
    """Brings changes to the streams."""

    def __init__(self, db: Database, streams: Streams, render: Render) -> None:
        """Read from `db`; `render` makes the message about a deployment."""
        self._db = db
        self._streams = streams
        self._render = render
        self._told: set[UUID] = set()
        self._look_at: float | None = None
        self._known: dict[UUID, int] = {}
        self._wake = asyncio.Event()
        self._ready = asyncio.Event()
        self.as_of: datetime | None = None
        self.is_reading = False

    def tell(self, ids: Collection[UUID]) -> None:
        """Say which deployments have changed."""
        if self._streams:
            self._told.update(ids)
            self._wake.set()

    def look(self) -> None:
        """Say that anything may have changed."""
        self._look_at = None
        self._wake.set()

    async def ready(self) -> None:
        """Return when everything that changes from now on will reach the streams."""
        if not self._ready.is_set():
            self._wake.set()
            await self._ready.wait()

    async def run(self) -> None:
        """Bring changes until cancelled; rest while nobody watches."""
        now = asyncio.get_running_loop().time
        while True:
            await self._until_wanted()
            if not self._streams:
                self._rest()
                continue
            due = self._look_at is None or now() >= self._look_at
            try:
                await self._batch(look=due)
            except Exception as error:  # noqa: BLE001  (a database that is away comes back)
                log.warning("changes_not_read", error=repr(error))
                self._look_at = None
                await asyncio.sleep(AGAIN_S)
                self._wake.set()
            await asyncio.sleep(BETWEEN_S)

    async def _until_wanted(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(self._look_at or loop.time() + LOOK_EVERY_S):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    def _rest(self) -> None:
        self._told.clear()
        self._known.clear()
        self._ready.clear()
        self._look_at = self.as_of = None

    async def _batch(self, *, look: bool) -> None:
        """Read what was told, or everything that may have changed, and publish what is new."""
        told, self._told = self._told, set()
        is_first = not self._ready.is_set()
        if look:
            # Before it begins: what is asked for meanwhile is another look.
            self._look_at = asyncio.get_running_loop().time() + LOOK_EVERY_S
        self.is_reading = True
        try:
            headers, moment = await self._changed(told, look=look)
            versions = {header.id: header.version for header in headers}
            if not is_first:  # else whoever is here waits to be ready before reading anything
                known = self._known
                news = [header for header in headers if header.version > known.get(header.id, -1)]
                versions |= await self._publish(news)
        except BaseException:
            self._told |= told
            raise
        finally:
            self.is_reading = False
        # The next look begins where this one did or later, and finds nothing else than these.
        self._known = versions if look else self._known | versions
        self._streams.forget_floors()
        if look:
            self.as_of = moment
            self._ready.set()

    async def _changed(
        self, told: Collection[UUID], *, look: bool
    ) -> tuple[list[Header], datetime]:
        async with self._db.snapshot() as tx:
            since = None
            if look:
                since = (self.as_of or await watched.moment(tx)) - LATE
            return await watched.changed(tx, told, since)

    async def _publish(self, news: list[Header]) -> dict[UUID, int]:
        """Offer what is new to whoever wants it; return the versions that were read."""
        versions: dict[UUID, int] = {}
        wanted = iter(self._streams.wanted(news))
        while chunk := list(islice(wanted, CHUNK)):
            async with self._db.snapshot() as tx:
                read = await states(tx, [header.id for header in chunk], self._render)
            self._streams.publish({state.id: state for state in read}, chunk)
            versions |= {state.id: state.version for state in read}
        return versions
