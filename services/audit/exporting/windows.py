"""Windows of an export: ranges of leaves, each copied out of the database by one short statement.

A window goes into a spool: a few megabytes in memory, the rest of an unusually fat one in a
temporary file. Nothing in the database waits for a slow reader, and memory does not depend on the
size of the export. The next window is copied while the reader takes the last one.
"""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from hashlib import sha256
from tempfile import SpooledTemporaryFile
from typing import Any

from services.audit.rules.manifest import Form, Retired
from services.audit.store import export_queries
from services.audit.store.appending import driver_connection
from services.audit.store.queries import Filter, Leaves
from shared.db.engine import Database
from shared.errors import ExportChanged

# In memory, the rest on disk. A stream has two windows, and there are at most eight streams.
SPOOL_BYTES = 4 * 1024 * 1024
# A window holds as many leaves as gave about this many bytes, by the size of those before it.
WINDOW_BYTES = 3 * 1024 * 1024
FIRST_WINDOW = 2_000
SMALLEST_WINDOW = 100
LARGEST_WINDOW = 50_000


@dataclass(frozen=True, slots=True)
class Pinned:
    """The state of the ledger that an export shows, whatever is appended while it runs.

    `whole` are the leaves to look through, `size` is how many the ledger had, and `retired` are the
    intervals of `whole` whose entries were gone by then, without their hashes.
    """

    whole: Leaves
    size: int
    epoch: int
    retired: tuple[Retired, ...] = ()


@dataclass(slots=True)
class Digest:
    """What a manifest says of the file: its SHA-256, its size in bytes and its rows."""

    sha256: Any = field(default_factory=sha256)
    size: int = 0
    rows: int = 0

    def add(self, data: bytes) -> None:
        """Count further bytes."""
        self.sha256.update(data)
        self.size += len(data)


@dataclass(frozen=True, slots=True)
class Window:
    """What a range of leaves is in the file; whoever takes it closes the spool."""

    spool: SpooledTemporaryFile[bytes]
    leaves: Leaves
    rows: int
    size: int


class Windows:
    """Copies the windows of one export."""

    def __init__(self, database: Database, wanted: Filter, form: Form, pinned: Pinned) -> None:
        """Take a database under the reader's role, and what to copy."""
        self._database = database
        self._wanted = wanted
        self._form = form
        self._pinned = pinned

    async def copied(self, leaves: Leaves) -> AsyncGenerator[Window, None]:
        """Yield the windows of a range, each copied while the one before it is being sent.

        Raises ExportChanged.
        """
        first, width = leaves.first, FIRST_WINDOW
        copying: asyncio.Task[Window] | None = None
        try:
            while first < leaves.end or copying is not None:
                window = await copying if copying is not None else None
                copying = None
                if window is not None:
                    width = _next_width(window.leaves, window.size)
                if first < leaves.end:
                    ahead = Leaves(first, min(first + width, leaves.end))
                    copying = asyncio.create_task(self._spooled(ahead))
                    first = ahead.end
                if window is not None:
                    yield window
        finally:
            if copying is not None:
                # A callback, because this wait may be cancelled in its turn.
                copying.add_done_callback(_discard)
                copying.cancel()
                await asyncio.wait([copying])

    async def digested(self, leaves: Leaves, digest: Digest) -> Digest:
        """Add what a range is in the file to a digest, and return it. Raises ExportChanged."""
        first, width = leaves.first, FIRST_WINDOW
        while first < leaves.end:
            window = Leaves(first, min(first + width, leaves.end))
            before = digest.size
            digest.rows += await self._copy(window, digest)
            width = _next_width(window, digest.size - before)
            first = window.end
        return digest

    async def _spooled(self, leaves: Leaves) -> Window:
        spool: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(max_size=SPOOL_BYTES)  # noqa: SIM115
        try:
            rows = await self._copy(leaves, spool)
            size = spool.tell()
            spool.seek(0)
        except BaseException:
            spool.close()
            raise
        return Window(spool, leaves, rows, size)

    async def _copy(self, leaves: Leaves, into: SpooledTemporaryFile[bytes] | Digest) -> int:
        """Copy one window out of the database and return its rows; raises ExportChanged."""
        query, parameters, options = export_queries.window(self._wanted, leaves, self._form)
        keep = into.add if isinstance(into, Digest) else into.write

        async def take(data: bytes) -> None:
            keep(data)

        gone = [one.leaves.first for one in self._pinned.retired]
        changed = (export_queries.CHANGED, *(leaves.first, leaves.end, self._pinned.size, gone))
        async with driver_connection(self._database.engine) as driver:
            # The driver has PostgreSQL quote the parameters, as COPY takes none.
            copied = await driver.copy_from_query(query, *parameters, output=take, **options)
            # After the copy, so that nothing that it saw is missed.
            position = await driver.fetchval(*changed)
        if position is not None:
            raise ExportChanged(position=position)
        return int(copied.removeprefix("COPY "))


def _discard(copying: asyncio.Task[Window]) -> None:
    if not copying.cancelled() and copying.exception() is None:
        copying.result().spool.close()


def _next_width(before: Leaves, size: int) -> int:
    """Return how many leaves would give WINDOW_BYTES, at most four times as many as before."""
    width = before.end - before.first
    fitting = width * WINDOW_BYTES // max(size, 1)
    return max(SMALLEST_WINDOW, min(fitting, width * 4, LARGEST_WINDOW))
