"""Reading the ledger: pages, single entries and sequences of aggregates."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.store import queries
from services.audit.store.queries import Filter, Leaves
from shared.db.engine import Database
from shared.db.violations import sqlstate
from shared.errors import PageTokenInvalid, PositionOutOfRange, ResourceNotFound
from shared.paging import PageTokens, page_size

PAGE_SIZE = 100
COUNTED = 10_000
COUNTING_MS = 2_000
_CANCELLED = "57014"

Entry = Row[Any]


@dataclass(frozen=True, slots=True)
class PageQuery:
    """A page that somebody asks for; `method` and `caller` bind its tokens."""

    method: str
    caller: UUID
    wanted: Filter
    size: int = 0
    token: str = ""
    oldest_first: bool = False
    include_total: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Entries, the token of the next page ("" at the end) and, if asked for, how many there are."""

    entries: Sequence[Entry]
    next_token: str = ""
    total: int | None = None
    total_is_estimate: bool = False


class Reading:
    """Answers queries from one consistent state of the ledger each."""

    def __init__(self, database: Database, tokens: PageTokens) -> None:
        """Take a database under the reader's role, and the maker of tokens."""
        self._database = database
        self._tokens = tokens

    async def page(self, asked: PageQuery) -> Page:
        """Return a page; raises PageTokenInvalid.

        At most 50,000 entries are examined, so a page may be short or empty and still have a next.
        """
        query = asked.wanted.encoded() + b"oldest" * asked.oldest_first
        size = page_size(asked.size, PAGE_SIZE)
        async with self._database.snapshot() as tx:
            everything = await leaves_of(tx, asked.wanted)
            left = self._left(asked, query, everything)
            looked = _bounded(asked.wanted, left, oldest_first=asked.oldest_first)
            found = queries.page(asked.wanted, looked, size=size, oldest_first=asked.oldest_first)
            entries = (await tx.execute(found)).all()
            if len(entries) == size:
                goes_on: int | None = entries[-1].leaf_index
            else:
                goes_on = await _stopped_at(tx, asked, looked, left)
            total, estimated = None, False
            if asked.include_total:
                total, estimated = await _total(tx, asked.wanted, everything)
        token = ""
        if goes_on is not None and _after(goes_on, left, asked.oldest_first) is not None:
            token = self._tokens.encode(asked.method, asked.caller, query, [goes_on])
        return Page(entries, token, total, estimated)

    def _left(self, asked: PageQuery, query: bytes, everything: Leaves) -> Leaves:
        """Return the leaves that earlier pages have not covered."""
        if not asked.token:
            return everything
        position = self._tokens.decode(asked.method, asked.caller, query, asked.token)
        match position:
            case [int(leaf)]:
                left = _after(leaf, everything, asked.oldest_first)
                return left or Leaves(0, 0)
            case _:
                raise PageTokenInvalid(method=asked.method)

    async def by_id(self, audit_log_id: UUID) -> Entry:
        """Return the entry with this id; raises ResourceNotFound."""
        async with self._database.snapshot() as tx:
            found = (await tx.execute(queries.entry(audit_log_id=audit_log_id))).one_or_none()
        if found is None:
            raise ResourceNotFound(resource_type="audit log", resource=audit_log_id)
        return found

    async def by_leaf_index(self, leaf_index: int) -> Entry:
        """Return the entry at a position; raises PositionOutOfRange beyond the end."""
        async with self._database.snapshot() as tx:
            found = (await tx.execute(queries.entry(leaf_index=leaf_index))).one_or_none()
            size = (await tx.execute(queries.head())).scalar_one()
        if found is None:
            raise PositionOutOfRange(position=leaf_index, size=size)
        return found

    async def sequences(self, producer: str, aggregates: Sequence[str]) -> dict[str, int]:
        """Return, for each aggregate of a producer, n when the ledger holds its 1 to n."""
        async with self._database.snapshot() as tx:
            found = await tx.execute(queries.sequences(producer, aggregates))
            dense = {row.aggregate: row.dense for row in found}
        return dict.fromkeys(aggregates, 0) | dense


async def leaves_of(tx: AsyncConnection, wanted: Filter) -> Leaves:
    """Return the range of leaves that a filter's dates leave over."""
    size: int = (await tx.execute(queries.head())).scalar_one()
    first = 0 if wanted.start is None else await _leaf_at(tx, wanted.start, size)
    end = size if wanted.end is None else await _leaf_at(tx, wanted.end, size)
    return Leaves(first, max(first, end))


async def _leaf_at(tx: AsyncConnection, moment: datetime, size: int) -> int:
    found = (await tx.execute(queries.first_at_or_after(moment))).scalar_one_or_none()
    return size if found is None else int(found)


def _bounded(wanted: Filter, left: Leaves, *, oldest_first: bool) -> Leaves:
    """Return the leaves to look at: all, or as many as may be examined one by one."""
    if queries.is_driven(wanted):
        return left
    if oldest_first:
        return Leaves(left.first, min(left.end, left.first + queries.EXAMINED))
    return Leaves(max(left.first, left.end - queries.EXAMINED), left.end)


async def _stopped_at(
    tx: AsyncConnection, asked: PageQuery, looked: Leaves, left: Leaves
) -> int | None:
    """Return the last leaf examined for a page that was not filled; None when all were."""
    if queries.is_driven(asked.wanted):
        stopped = queries.last_examined(asked.wanted, looked, oldest_first=asked.oldest_first)
        found: int | None = (await tx.execute(stopped)).scalar_one_or_none()
        return found
    if looked == left:
        return None
    return looked.end - 1 if asked.oldest_first else looked.first


def _after(leaf: int, leaves: Leaves, oldest_first: bool) -> Leaves | None:  # noqa: FBT001
    """Return the leaves beyond one in the order of the list, or None when there are none."""
    if oldest_first:
        rest = Leaves(max(leaf + 1, leaves.first), leaves.end)
    else:
        rest = Leaves(leaves.first, min(leaf, leaves.end))
    return rest if rest.first < rest.end else None


async def _total(tx: AsyncConnection, wanted: Filter, leaves: Leaves) -> tuple[int, bool]:
    """Return how many entries match, and whether that is the planner's estimate.

    Counted exactly up to 10,000, or for as long as counting may take.
    """
    try:
        async with tx.begin_nested():
            await tx.execute(text(f"SET LOCAL statement_timeout = {COUNTING_MS}"))
            counting = queries.count(wanted, leaves, at_most=COUNTED + 1)
            counted: int = (await tx.execute(counting)).scalar_one()
    except DBAPIError as error:
        if error.orig is None or sqlstate(error.orig) != _CANCELLED:
            raise
        counted = 0
    else:
        if counted <= COUNTED:
            return counted, False
    return max(counted, await _estimate(tx, wanted, leaves)), True


async def _estimate(tx: AsyncConnection, wanted: Filter, leaves: Leaves) -> int:
    statement, parameters = queries.export_window(wanted, leaves, spreadsheet=False)
    raw: Any = (await tx.get_raw_connection()).driver_connection
    plan = await raw.fetchval(f"EXPLAIN (FORMAT JSON) {statement}", *parameters)
    rows: int = plan[0]["Plan"]["Plan Rows"]
    return rows
