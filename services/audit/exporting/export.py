"""Exports: the ledger as a file, written by PostgreSQL, passed through, proved by a manifest.

An export shows the ledger as it was at its start. Cut and resumed, it is the same file: windows are
copied by position, and what was erased or dropped in between ends it. Its digest is computed beside
the sending; of a resumed one by a second pass over all windows, as a digest cannot be handed over.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import Any
from uuid import UUID

from services.audit.exporting.manifest import Manifests
from services.audit.exporting.windows import Digest, Pinned, Window, Windows
from services.audit.reading.entries import leaves_of
from services.audit.rules.csv import HEADER
from services.audit.rules.manifest import Form, Retired
from services.audit.store import export_queries, trees
from services.audit.store.queries import Filter, Leaves
from shared.db.engine import Database
from shared.errors import ExportChanged, ExportSlotsTaken, PageTokenInvalid, SigningStopped
from shared.merkle.checkpoint import epoch_of
from shared.merkle.tree import Span
from shared.paging import PageTokens
from shared.rpc.slots import Slots

CHUNK_BYTES = 256 * 1024
SLOTS_PER_CALLER = 2
SLOTS = 8


@dataclass(frozen=True, slots=True)
class ExportQuery:
    """An export that somebody asks for; `method` and `caller` bind its resume tokens.

    `user` is the name by which the caller said whose entries are wanted.
    """

    method: str
    caller: UUID
    wanted: Filter
    form: Form = Form.CSV
    user: str = ""
    resume_token: str = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes of the file. With `resume_token` they end a window; `rows` were sent so far.

    The last one is `complete` and has the manifest, or the `problem` why there is none.
    """

    data: bytes
    tree_size: int
    resume_token: str = ""
    rows: int = 0
    complete: bool = False
    manifest: str = ""
    problem: str = ""


Send = Callable[[Chunk], Awaitable[None]]


class Exports:
    """Runs exports against a database under the reader's role."""

    def __init__(self, database: Database, tokens: PageTokens, manifests: Manifests) -> None:
        """Take the database, the maker of tokens, and who signs what was exported."""
        self._database = database
        self._tokens = tokens
        self._manifests = manifests
        self._slots = Slots(ExportSlotsTaken, per_caller=SLOTS_PER_CALLER, total=SLOTS)

    async def run(self, asked: ExportQuery, send: Send) -> None:
        """Send an export chunk by chunk, as fast as `send` returns.

        Raises ExportSlotsTaken and PageTokenInvalid before anything is sent, and ExportChanged.
        """
        with self._slots.taken(asked.caller):
            pinned, left = await self._pinned(asked)
            windows = Windows(self._database, asked.wanted, asked.form, pinned)
            digest = Digest()
            if asked.form in {Form.CSV, Form.SPREADSHEET}:
                digest.add(HEADER)
                if not asked.resume_token:
                    await send(Chunk(HEADER, pinned.size))
            if asked.resume_token:
                async with _beside(windows.digested(pinned.whole, digest)) as again:
                    rows = await self._sent(asked, pinned, windows.copied(left), send, again)
                    await again
            else:
                rows = await self._sent(asked, pinned, windows.copied(left), send, digest)
            await send(await self._last(asked, pinned, digest, rows))

    async def _pinned(self, asked: ExportQuery) -> tuple[Pinned, Leaves]:
        """Return the state that the export shows, and the leaves that are left to send of it."""
        async with self._database.snapshot() as tx:
            head = await trees.head(tx)
            if not asked.resume_token:
                left = whole = await leaves_of(tx, asked.wanted)
                size, epoch, known = head.next_index, epoch_of(head.origin), -1
            else:
                position = self._tokens.decode(
                    asked.method, asked.caller, _bound(asked), asked.resume_token
                )
                match position:
                    case [int(begin), int(first), int(end), int(size), int(epoch), int(known)]:
                        whole, left = Leaves(begin, end), Leaves(first, end)
                    case _:
                        raise PageTokenInvalid(method=asked.method)
            months = (await tx.execute(export_queries.dropped(whole))).all()
        retired = tuple(
            Retired(Span(row.first_index, row.end_index), row.leaf_index, ()) for row in months
        )
        if epoch_of(head.origin) != epoch or known not in {-1, len(retired)}:
            raise ExportChanged(position=whole.first)
        if size > head.next_index:  # entries of it are lost
            raise ExportChanged(position=head.next_index)
        return Pinned(whole, size, epoch, retired), left

    async def _sent(
        self,
        asked: ExportQuery,
        pinned: Pinned,
        windows: AsyncGenerator[Window, None],
        send: Send,
        digest: Digest | asyncio.Task[Digest],
    ) -> int:
        """Send windows and return their rows; count them, unless somebody else does."""
        rows = 0
        async with aclosing(windows) as copied:
            async for window in copied:
                rows += window.rows
                token = self._token(asked, pinned, window.leaves.end)
                last = Chunk(b"", pinned.size, token, rows)
                with window.spool as spool:
                    for chunk in _chunks(spool, last):
                        if isinstance(digest, Digest):
                            digest.add(chunk.data)
                        await send(chunk)
                if isinstance(digest, Digest):
                    digest.rows = rows
                elif digest.done():
                    digest.result()  # raises what ended it early
        return rows

    def _token(self, asked: ExportQuery, pinned: Pinned, first: int) -> str:
        whole = pinned.whole
        position = [whole.first, first, whole.end, pinned.size, pinned.epoch, len(pinned.retired)]
        return self._tokens.encode(asked.method, asked.caller, _bound(asked), position)

    async def _last(self, asked: ExportQuery, pinned: Pinned, digest: Digest, rows: int) -> Chunk:
        """Return the end of an export; its token fetches a manifest that is not there yet."""
        manifest = problem = ""
        try:
            manifest = await self._manifests.signed(
                asked.form, asked.wanted, pinned, digest, caller=asked.caller, user=asked.user
            )
        except SigningStopped as stopped:
            problem = str(stopped)
        token = self._token(asked, pinned, pinned.whole.end)
        return Chunk(
            b"", pinned.size, token, rows, complete=True, manifest=manifest, problem=problem
        )


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, Digest]) -> AsyncIterator[asyncio.Task[Digest]]:
    """Run something during the block; leaving it ends what is not done."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()  # seen by whoever waited for it


def _bound(asked: ExportQuery) -> bytes:
    return asked.wanted.encoded() + asked.form.encode()


def _chunks(spool: SpooledTemporaryFile[bytes], last: Chunk) -> Iterator[Chunk]:
    """Yield a window in chunks; what `last` says goes with its last bytes."""
    data = spool.read(CHUNK_BYTES)
    while len(data) == CHUNK_BYTES:
        following = spool.read(CHUNK_BYTES)
        if not following:
            break
        yield Chunk(data, last.tree_size)
        data = following
    yield Chunk(data, last.tree_size, last.resume_token, last.rows)
