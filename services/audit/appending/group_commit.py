"""Group commit: many callers, one commit.

There is no timer: a batch is whatever was queued while the last one was being committed, and what
arrives in the same moment. So a lone caller waits for its own commit only, and under load a commit
is shared by many.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta

import asyncpg

from services.audit.rules.events import Sealed
from services.audit.store.appending import Driver, Placed, append, driver_connection
from shared.db.engine import Database
from shared.db.violations import translate
from shared.errors import AppendQueueFull, DatabaseUnavailable, ServerStopping

CAPACITY = 8_192
LARGEST_BATCH = 1_000
QUIET_TURNS = 8
RETRY_AFTER = timedelta(milliseconds=250)

# What became of one event: a place in the ledger, or why this one alone could not be stored.
Outcome = Placed | Exception


@dataclass(frozen=True, slots=True)
class _Waiting:
    events: Sequence[Sealed]
    done: asyncio.Future[list[Outcome]]


class GroupCommit:
    """The one queue of a process before the ledger."""

    def __init__(self, database: Database, *, on_commit: Callable[[], None] = lambda: None) -> None:
        """Prepare a queue in front of a database under the writer's role.

        `on_commit` is called when something was appended.
        """
        self._on_commit = on_commit
        self._database = database
        self._queue: deque[_Waiting] = deque()
        self._queued = 0
        self._arrived = asyncio.Event()
        self._stopping = False
        self._flusher: asyncio.Task[None] | None = None
        self._held: tuple[Driver, AsyncExitStack] | None = None

    def start(self) -> None:
        """Begin to append what is queued."""
        self._flusher = asyncio.create_task(self._flush_for_ever(), name="audit group commit")

    async def stop(self) -> None:
        """Append what is queued, then end; whoever comes later is refused."""
        self._stopping = True
        self._arrived.set()
        if self._flusher is not None:
            await self._flusher

    async def append(self, events: Sequence[Sealed]) -> list[Outcome]:
        """Append events in order and next to one another; return when they are committed.

        At most 1,000 at a time. Raises AppendQueueFull at once when there is no room, and what
        the database raised when nothing could be stored. A caller that is cancelled while it
        waits changes nothing: its events may or may not be in the ledger.
        """
        if self._stopping:
            raise ServerStopping
        if self._queued + len(events) > CAPACITY:
            raise AppendQueueFull(retry_after=RETRY_AFTER)
        done: asyncio.Future[list[Outcome]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Waiting(events, done))
        self._queued += len(events)
        self._arrived.set()
        return await done

    async def _flush_for_ever(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._queue:
                await self._let_in()
                await self._flush(self._take())
            await self._give_back(None)
            if self._stopping and not self._queue:  # nobody has come while it was given back
                return

    async def _let_in(self) -> None:
        """Let those in who are about to arrive: wait as long as the queue keeps growing.

        Measured in turns of the event loop, not in time: with nothing else to do they pass at once.
        A commit costs much the same for one entry as for thirty.
        """
        quiet = 0
        while quiet < QUIET_TURNS and self._queued < LARGEST_BATCH:
            before = self._queued
            await asyncio.sleep(0)
            quiet = quiet + 1 if self._queued == before else 0

    def _take(self) -> list[_Waiting]:
        """Take as many waiting callers as fit into one batch, the longest waiting first."""
        taken: list[_Waiting] = []
        room = LARGEST_BATCH
        while self._queue and (not taken or len(self._queue[0].events) <= room):
            waiting = self._queue.popleft()
            room -= len(waiting.events)
            self._queued -= len(waiting.events)
            if not waiting.done.cancelled():
                taken.append(waiting)
        return taken

    async def _flush(self, batch: list[_Waiting]) -> None:
        events = [event for waiting in batch for event in waiting.events]
        if not events:
            return
        try:
            outcomes = await self._append_again(events)
        except Exception as error:  # noqa: BLE001  (whatever it is, the callers must learn of it)
            for waiting in batch:
                _fail(waiting.done, error)
            return
        self._on_commit()
        start = 0
        for waiting in batch:
            end = start + len(waiting.events)
            if not waiting.done.done():
                waiting.done.set_result(outcomes[start:end])
            start = end

    async def _append_again(self, events: Sequence[Sealed]) -> list[Outcome]:
        """Append; after a lost connection once more, which the event ids make safe."""
        try:
            return await self._append(events)
        except Exception as error:
            if not isinstance(_translated(error), DatabaseUnavailable):
                raise
            return await self._append(events)

    async def _append(self, events: Sequence[Sealed]) -> list[Outcome]:
        """Append a batch; where one event makes the database refuse all, find it by halves."""
        try:
            return list(await append(await self._driver(), events))
        except (asyncpg.DataError, asyncpg.ForeignKeyViolationError) as error:
            if len(events) == 1:
                return [error]
        except BaseException as error:
            await self._give_back(error)
            raise
        half = len(events) // 2
        return [*await self._append(events[:half]), *await self._append(events[half:])]

    async def _driver(self) -> Driver:
        """Return a connection, which is held for as long as batches follow one another."""
        if self._held is None:
            stack = AsyncExitStack()
            driver = await stack.enter_async_context(driver_connection(self._database.engine))
            self._held = driver, stack
        return self._held[0]

    async def _give_back(self, error: BaseException | None) -> None:
        """Return the connection to the pool, or drop it if `error` leaves it in doubt."""
        if self._held is None:
            return
        (_driver, stack), self._held = self._held, None
        with suppress(Exception):  # it is `error` again, which the caller raises
            await stack.__aexit__(type(error) if error else None, error, None)


def _fail(done: asyncio.Future[list[Outcome]], error: Exception) -> None:
    """Give each waiting caller an error of its own, so that none carries another's traceback."""
    with suppress(asyncio.InvalidStateError):
        done.set_exception(_translated(error))


def _translated(error: Exception) -> Exception:
    if isinstance(error, OSError):  # the driver's own, time-outs included
        return DatabaseUnavailable(retry_after=RETRY_AFTER)
    return translate(error) or error
