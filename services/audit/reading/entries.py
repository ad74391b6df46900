"""Reading the ledger: pages, single entries and sequences of aggregates."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.reading.searching import END, Entry, Search, after
from services.audit.store import queries, retention
from services.audit.store.queries import Filter, Leaves
from shared.db.engine import Database
from shared.db.violations import sqlstate
from shared.errors import EntryRetired, PageTokenInvalid, PositionOutOfRange, ResourceNotFound
from shared.paging import PageTokens, page_size

PAGE_SIZE = 100
COUNTED = 10_000
COUNTING_MS = 1_000
# For so long tokens go on with a list that an entry tells of; then another one has to.
TOLD_FOR_S = 3_600
_CANCELLED = "57014"


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A page that somebody asks for at `now`, in seconds; `method` and `caller` bind its tokens."""

    method: str
    caller: UUID
    wanted: Filter
    now: int = 0
    size: int = 0
    token: str = ""
    oldest_first: bool = False
    include_total: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, the token of the next page ("" at the end) and, if asked for, how many there are.

    It `is_news` unless an entry of the last hour tells that the caller reads this list: tokens do
    not expire, and would lead to what is appended later without a trace.
    """

    entries: Sequence[Entry]
    is_news: bool
    next_token: str = ""
    total: int | None = None
    total_is_estimate: bool = False


class Reading:
    """Answers queries. Entries neither move nor change places, so a page needs no snapshot."""

    def __init__(self, database: Database, tokens: PageTokens) -> None:
        """Take a database under the reader's role and `pages.PLANS`, and the maker of tokens."""
        self._database = database
        self._tokens = tokens

    async def page(self, asked: PageQuery) -> Page:
        """Return a page; raises PageTokenInvalid.

        The search is bounded, so a page may be short or empty and still have a next.
        """
        query = asked.wanted.encoded() + b"oldest" * asked.oldest_first
        size = page_size(asked.size, PAGE_SIZE)
        async with self._database.statements() as tx:
            everything = await _dated(tx, asked.wanted)
            left, told_at = self._left(asked, query, everything)
            search = Search(tx, asked.wanted, asked.oldest_first, size)
            stop = await search.run(left)
        is_news = told_at is None or asked.now - told_at > TOLD_FOR_S
        token = ""
        if stop is not None and after(stop, left, oldest_first=asked.oldest_first) is not None:
            position = [stop, asked.now if told_at is None or is_news else told_at]
            token = self._tokens.encode(asked.method, asked.caller, query, position)
        total, estimated = None, False
        if asked.include_total:
            total, estimated = await self._total(asked.wanted, everything)
        return Page(search.found, is_news, token, total, estimated)

    def _left(
        self, asked: PageQuery, query: bytes, everything: Leaves
    ) -> tuple[Leaves, int | None]:
        """Return the leaves that earlier pages have not covered, and when these were told of."""
        if not asked.token:
            return everything, None
        position = self._tokens.decode(asked.method, asked.caller, query, asked.token)
        match position:
            case [int(leaf), int(told_at)]:
                left = after(leaf, everything, oldest_first=asked.oldest_first)
                return left or Leaves(0, 0), told_at
            case _:
                raise PageTokenInvalid(method=asked.method)

    async def by_id(self, audit_log_id: UUID) -> Entry:
        """Return the entry with this id; raises ResourceNotFound and EntryRetired."""
        async with self._database.statements() as tx:
            found = (await tx.execute(queries.entry(audit_log_id=audit_log_id))).one_or_none()
            if found is None:
                position = queries.position_in(audit_log_id)
                at_it = (await tx.execute(queries.entry(leaf_index=position))).one_or_none()
                if at_it is None:
                    await _check_retired(tx, position)
                raise ResourceNotFound(resource_type="audit log", resource=audit_log_id)
        return found

    async def by_leaf_index(self, leaf_index: int, *, kept: bool = False) -> Entry:
        """Return the entry at a position, with `kept` also one that outlives its month.

        Raises PositionOutOfRange beyond the end, and EntryRetired.
        """
        async with self._database.statements() as tx:
            found = (await tx.execute(queries.entry(leaf_index=leaf_index))).one_or_none()
        return found or await self._missing(leaf_index, kept=kept)

    async def _missing(self, leaf_index: int, *, kept: bool) -> Entry:
        """Return an entry that was not there, looking at one state of the ledger."""
        async with self._database.snapshot() as tx:
            found = (await tx.execute(queries.entry(leaf_index=leaf_index))).one_or_none()
            size = (await tx.execute(queries.head())).scalar_one()
            if found is None and kept:
                found = (await tx.execute(retention.kept_entry(leaf_index))).one_or_none()
            if found is None:
                await _check_retired(tx, leaf_index)
                raise PositionOutOfRange(position=leaf_index, size=size)
        return found

    async def position(self, key: UUID | int) -> int:
        """Return the position of an entry by its id, also of one that was retired.

        A position is returned as it is. Raises ResourceNotFound.
        """
        if isinstance(key, int):
            return key
        try:
            return int((await self.by_id(key)).leaf_index)
        except EntryRetired:
            return queries.position_in(key)

    async def sequences(self, producer: str, aggregates: Sequence[str]) -> dict[str, int]:
        """Return, for each aggregate of a producer, n when the ledger holds its 1 to n."""
        async with self._database.statements() as tx:
            found = await tx.execute(queries.sequences(producer, aggregates))
            dense = {row.aggregate: row.dense for row in found}
        return dict.fromkeys(aggregates, 0) | dense

    async def _total(self, wanted: Filter, leaves: Leaves) -> tuple[int, bool]:
        """Return how many entries match, and whether that is the planner's estimate.

        Counted exactly up to 10,000, or for as long as counting may take.
        """
        try:
            async with self._database.snapshot() as tx:
                await tx.execute(queries.counting(milliseconds=COUNTING_MS))
                statement = queries.count(wanted, leaves, at_most=COUNTED + 1)
                counted: int = (await tx.execute(statement)).scalar_one()
        except DBAPIError as error:
            if error.orig is None or sqlstate(error.orig) != _CANCELLED:
                raise
            counted = 0
        else:
            if counted <= COUNTED:
                return counted, False
        async with self._database.statements() as tx:
            return max(counted, await _estimate(tx, wanted, leaves)), True


async def _check_retired(tx: AsyncConnection, position: int) -> None:
    """Raise EntryRetired for a position without an entry whose month was announced to go."""
    found = await retention.retirement_of(tx, position)
    if found is not None:
        raise EntryRetired(
            position=position, retired_by=found.leaf_index, next_index=found.span.end
        )


async def leaves_of(tx: AsyncConnection, wanted: Filter) -> Leaves:
    """Return the range of leaves that a filter's dates leave over, up to the end of the ledger."""
    size: int = (await tx.execute(queries.head())).scalar_one()
    return await _dated(tx, wanted, size)


async def _dated(tx: AsyncConnection, wanted: Filter, size: int = END) -> Leaves:
    first = 0 if wanted.start is None else await _leaf_at(tx, wanted.start, size)
    end = size if wanted.end is None else await _leaf_at(tx, wanted.end, size)
    return Leaves(first, max(first, end))


async def _leaf_at(tx: AsyncConnection, moment: datetime, size: int) -> int:
    found = (await tx.execute(queries.first_at_or_after(moment))).scalar_one_or_none()
    return size if found is None else int(found)


async def _estimate(tx: AsyncConnection, wanted: Filter, leaves: Leaves) -> int:
    statement, parameters = queries.all_matches(wanted, leaves)
    raw: Any = (await tx.get_raw_connection()).driver_connection
    plan = await raw.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)
    rows: int = plan[0]["Plan"]["Plan Rows"]
    return rows
