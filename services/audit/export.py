"""Exports: the ledger as CSV, written by PostgreSQL, passed through window by window.

A window is a range of leaves copied by one short statement into a spool: a few megabytes in memory,
the rest of an unusually fat one in a temporary file. Nothing in the database waits for a slow
reader, and memory does not depend on the size of the export. The next window is copied while the
reader takes the last one.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any
from uuid import UUID

from services.audit.reading import leaves_of
from services.audit.rules.csv import HEADER
from services.audit.store import queries
from services.audit.store.appending import driver_connection
from services.audit.store.queries import Filter, Leaves
from shared.db.engine import Database
from shared.errors import ExportSlotsTaken, PageTokenInvalid
from shared.paging import PageTokens

CHUNK_BYTES = 256 * 1024
SPOOL_BYTES = 4 * 1024 * 1024
# A window holds as many leaves as gave about this many bytes, by the size of those before it.
WINDOW_BYTES = 2 * 1024 * 1024
FIRST_WINDOW = 2_000
SMALLEST_WINDOW = 100
LARGEST_WINDOW = 50_000
SLOTS_PER_CALLER = 2
SLOTS = 8


@dataclass(frozen=True, slots=True)
class ExportQuery:
    """An export that somebody asks for; `method` and `caller` bind its resume tokens."""

    method: str
    caller: UUID
    wanted: Filter
    spreadsheet: bool = False
    resume_token: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of the file. With `resume_token` they end a window; `rows` were sent so far."""

    data: bytes
    tree_size: int
    resume_token: str = ""
    rows: int = 0
    complete: bool = False


@dataclass(frozen=True, slots=True)
class _Window:
    spool: SpooledTemporaryFile[bytes]
    leaves: Leaves
    rows: int
    size: int


class Slots:
    """How many exports may run at a time: two of one caller, eight in one process."""

    def __init__(self) -> None:
        """Begin with none running."""
        self._running: dict[UUID, int] = {}

    @contextmanager
    def taken(self, caller: UUID) -> Iterator[None]:
        """Hold a slot; raises ExportSlotsTaken."""
        own, total = self._running.get(caller, 0), sum(self._running.values())
        if own >= SLOTS_PER_CALLER:
            raise ExportSlotsTaken(running=own)
        if total >= SLOTS:
            raise ExportSlotsTaken(running=total)
        self._running[caller] = own + 1
        try:
            yield
        finally:
            self._running[caller] -= 1
            if not self._running[caller]:
                del self._running[caller]


class Exports:
    """Runs exports against a database under the reader's role."""

    def __init__(self, database: Database, tokens: PageTokens) -> None:
        """Take the database and the maker of tokens."""
        self._database = database
        self._tokens = tokens
        self._slots = Slots()

    async def run(self, asked: ExportQuery, send: Callable[[Chunk], Awaitable[None]]) -> None:
        """Send an export chunk by chunk, as fast as `send` returns.

        Raises ExportSlotsTaken and PageTokenInvalid before anything is sent.
        """
        with self._slots.taken(asked.caller):
            leaves, size = await self._pinned(asked)
            if not asked.resume_token:
                await send(Chunk(HEADER, size))
            rows = 0
            async with aclosing(self._windows(asked, leaves)) as windows:
                async for window in windows:
                    rows += window.rows
                    token = self._token(asked, Leaves(window.leaves.end, leaves.end), size)
                    with window.spool as spool:
                        await _send(spool, send, Chunk(b"", size, token, rows))
            await send(Chunk(b"", size, rows=rows, complete=True))

    async def _pinned(self, asked: ExportQuery) -> tuple[Leaves, int]:
        """Return the leaves to export and the size of the ledger they belong to."""
        if asked.resume_token:
            position = self._tokens.decode(
                asked.method, asked.caller, _bound(asked), asked.resume_token
            )
            match position:
                case [int(first), int(end), int(size)]:
                    return Leaves(first, end), size
                case _:
                    raise PageTokenInvalid(method=asked.method)
        async with self._database.snapshot() as tx:
            size = (await tx.execute(queries.head())).scalar_one()
            return await leaves_of(tx, asked.wanted), size

    def _token(self, asked: ExportQuery, left: Leaves, size: int) -> str:
        position = [left.first, left.end, size]
        return self._tokens.encode(asked.method, asked.caller, _bound(asked), position)

    async def _windows(self, asked: ExportQuery, leaves: Leaves) -> AsyncGenerator[_Window, None]:
        """Yield the windows of a range, each copied while the one before it is being sent."""
        first, width = leaves.first, FIRST_WINDOW
        copying: asyncio.Task[_Window] | None = None
        try:
            while first < leaves.end or copying is not None:
                window = await copying if copying is not None else None
                copying = None
                if window is not None:
                    width = _next_width(window)
                if first < leaves.end:
                    ahead = Leaves(first, min(first + width, leaves.end))
                    copying = asyncio.create_task(self._copy(asked, ahead))
                    first = ahead.end
                if window is not None:
                    yield window
        finally:
            if copying is not None:
                # A callback, because this wait may be cancelled in its turn.
                copying.add_done_callback(_discard)
                copying.cancel()
                await asyncio.wait([copying])

    async def _copy(self, asked: ExportQuery, leaves: Leaves) -> _Window:
        """Copy one window out of the database."""
        query, parameters = queries.export_window(
            asked.wanted, leaves, spreadsheet=asked.spreadsheet
        )
        spool: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115
        try:

            async def keep(data: bytes) -> None:
                spool.write(data)

            async with driver_connection(self._database.engine) as driver:
                # The driver has PostgreSQL quote the parameters, as COPY takes none.
                copied = await driver.copy_from_query(query, *parameters, output=keep, format="csv")
            size = spool.tell()
            spool.seek(0)
        except BaseException:
            spool.close()
            raise
        return _Window(spool, leaves, int(copied.removeprefix("COPY ")), size)


def _discard(copying: asyncio.Task[_Window]) -> None:
    if not copying.cancelled() and copying.exception() is None:
        copying.result().spool.close()


def _bound(asked: ExportQuery) -> bytes:
    return asked.wanted.encoded() + b"spreadsheet" * asked.spreadsheet


def _next_width(window: _Window) -> int:
    """Return how many leaves would give WINDOW_BYTES, at most four times as many as before."""
    before = window.leaves.end - window.leaves.first
    fitting = before * WINDOW_BYTES // max(window.size, 1)
    return max(SMALLEST_WINDOW, min(fitting, before * 4, LARGEST_WINDOW))


async def _send(spool: Any, send: Callable[[Chunk], Awaitable[None]], last: Chunk) -> None:  # noqa: ANN401
    """Send a window in chunks; what `last` says goes with its last bytes."""
    data = spool.read(CHUNK_BYTES)
    while len(data) == CHUNK_BYTES:
        following = spool.read(CHUNK_BYTES)
        if not following:
            break
        await send(Chunk(data, last.tree_size))
        data = following
    await send(Chunk(data, last.tree_size, last.resume_token, last.rows))
