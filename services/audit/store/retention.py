"""What leaves the ledger, as the database does it and remembers it."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import asyncpg
from sqlalchemy import Executable, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.rules.events import Sealed
from services.audit.rules.retirement import after
from services.audit.store import queries, trees
from services.audit.store.appending import COLUMNS, Driver, arrays, driver_connection
from shared.db.engine import Database
from shared.db.models.audit import AuditLegalHold, AuditLog, AuditRetirement
from shared.merkle.tree import Span

_KEPT = f"""
    SELECT {trees.COLUMNS} FROM (
        SELECT e.* FROM audit_kept_entries AS k,
            jsonb_populate_record(NULL::audit_logs, k.entry) AS e
        WHERE k.leaf_index = $1
    ) AS kept
"""  # noqa: S608  (names of columns)
_INTERVAL = """
    SELECT min(leaf_index), max(leaf_index) + 1, count(*) FROM audit_logs
    WHERE id >= $1 AND id < $2
"""
HOLD_PARAMETERS = 13
# What looks at each entry of a month may take this long, whatever other statements may.
MONTH_S = 3_600
# How often the database looks whether who asked for that is still there.
CALLER_LOOKED_FOR_MS = 10_000


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a call.

    `leaf_index` is the position of the entry that says so, or of one that hindered it; `hold` the
    name of the legal hold that did.
    """

    outcome: str
    leaf_index: int | None = None
    hold: str | None = None


@dataclass(frozen=True, slots=True)
class Retirement:
    """A month that was announced to leave the ledger by the entry at `leaf_index`."""

    month: date
    span: Span
    leaf_index: int
    dropped_at: datetime | None


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold to be placed; None in the filter matches all."""

    id: UUID
    name: str
    user_id: UUID | None
    action: str | None
    resource_type: str | None
    resource_id: str | None
    start_at: datetime | None
    end_at: datetime | None
    producer: str | None
    category: str | None
    details: dict[str, Any] | None
    reason: str
    placed_by: UUID


class _OnlyRehearsed(Exception):
    """Leaves a transaction so that it is taken back."""


@asynccontextmanager
async def rehearsal(database: Database, *, validate_only: bool) -> AsyncIterator[Driver]:
    """Lend a connection inside of a transaction, which is taken back with `validate_only`."""
    async with driver_connection(database.engine) as driver:
        with suppress(_OnlyRehearsed):
            async with driver.transaction():
                yield driver
                if validate_only:
                    raise _OnlyRehearsed


def _call(function: str, more: int) -> str:
    places = ", ".join(f"${number}" for number in range(1, COLUMNS + more + 1))
    return f"SELECT * FROM {function}({places})"  # noqa: S608  (one of ours)


_REDACT = _call("audit_redact", 3)
_RETIRE = _call("audit_retire", 3)
_PLACE_HOLD = _call("audit_place_hold", HOLD_PARAMETERS)
_RELEASE_HOLD = _call("audit_release_hold", 3)
_DROP_MONTH = "SELECT * FROM audit_drop_month($1)"


async def redact(
    driver: Driver, entry: Sealed, position: int, fields: Sequence[str], commitments: bytes
) -> Outcome:
    """Erase fields of the entry at a position and append `entry`, which says so.

    The outcome is `redacted`, `held`, `gone`, or `changed` when some of the fields are erased
    already.
    """
    given = (*arrays([entry]), position, list(fields), commitments)
    return _outcome(await driver.fetchrow(_REDACT, *given))


async def retire(driver: Driver, entry: Sealed, month: date, span: Span) -> Outcome:
    """Append `entry`, which announces that a month leaves the ledger, and remember it.

    The outcome is `retired`, `held`, `known` (it was announced before), `young`, `unsigned`, or
    `changed` when the month does not have exactly the positions of `span`. Raises
    asyncpg.SerializationError when a hold was placed meanwhile.
    """
    given = (*arrays([entry]), month, span.first, span.end)
    return _outcome(await _of_month(driver, _RETIRE, *given))


async def drop_month(driver: Driver, month: date) -> Outcome:
    """Drop the entries of a month that was announced; `dropped`, `held`, `unknown`, `unsigned`.

    Raises asyncpg.LockNotAvailableError when somebody reads the ledger at this moment, and
    asyncpg.SerializationError when a hold was placed meanwhile.
    """
    return _outcome(await _of_month(driver, _DROP_MONTH, month))


async def place_hold(driver: Driver, entry: Sealed, hold: Hold) -> tuple[str, UUID]:
    """Place a hold and append `entry`, which says so; `placed`, or `known` and the id of that."""
    values = [getattr(hold, name) for name in Hold.__slots__]
    details = Hold.__slots__.index("details")
    values[details] = None if hold.details is None else json.dumps(hold.details)
    row = await driver.fetchrow(_PLACE_HOLD, *arrays([entry]), *values)
    return str(_given(row)["o_outcome"]), UUID(str(_given(row)["o_id"]))


async def release_hold(driver: Driver, entry: Sealed, hold: UUID, by: UUID, because: str) -> str:
    """Release a hold and append `entry`, which says so; `released`, or `known` when it was."""
    row = await driver.fetchrow(_RELEASE_HOLD, *arrays([entry]), hold, by, because)
    return str(_given(row)["o_outcome"])


async def _of_month(driver: Driver, statement: str, *given: Any) -> asyncpg.Record | None:  # noqa: ANN401
    async with driver.transaction():
        await driver.execute(
            f"SET LOCAL statement_timeout = '{MONTH_S}s';"
            f" SET LOCAL client_connection_check_interval = '{CALLER_LOOKED_FOR_MS}ms'"
        )
        return await driver.fetchrow(statement, *given, timeout=MONTH_S)


def _outcome(row: asyncpg.Record | None) -> Outcome:
    return Outcome(*_given(row))


def _given(row: asyncpg.Record | None) -> asyncpg.Record:
    if row is None:
        raise LookupError
    return row


async def entry_at(driver: Driver, position: int) -> asyncpg.Record | None:
    """Return every column of an entry, also of one that was kept of a dropped month."""
    found = await trees.rows(driver, position, position + 1)
    if len(found) == 1:
        return found[0]
    return None if found else await driver.fetchrow(_KEPT, position)


def kept_entry(position: int) -> Executable:
    """Return the statement for every column of an entry that was kept of a dropped month."""
    columns = AuditLog.__table__.columns
    kept = text(
        "SELECT kept.* FROM audit_kept_entries AS k,"
        " jsonb_populate_record(NULL::audit_logs, k.entry) AS kept WHERE k.leaf_index = :position"
    )
    return kept.bindparams(position=position).columns(*columns)


async def interval(driver: Driver, month: date) -> tuple[Span, int] | None:
    """Return the positions of a month and how many entries it has; None when it has none."""
    ends = [
        queries.id_floor(datetime(day.year, day.month, 1, tzinfo=UTC))
        for day in (month, after(month))
    ]
    row = _given(await _of_month(driver, _INTERVAL, *ends))
    return None if row[0] is None else (Span(row[0], row[1]), row[2])


async def is_empty(driver: Driver, span: Span) -> bool:
    """Tell whether there is no entry at the positions of a span."""
    some = "SELECT EXISTS (SELECT FROM audit_logs WHERE leaf_index >= $1 AND leaf_index < $2)"
    return not await driver.fetchval(some, span.first, span.end)


async def retirement(tx: AsyncConnection, month: date) -> Retirement | None:
    """Return what is known of a month that was announced to leave."""
    return await _one(tx, AuditRetirement.month == month)


async def retirement_of(tx: AsyncConnection, position: int) -> Retirement | None:
    """Return the retirement that was announced for a position."""
    return await _one(
        tx, AuditRetirement.first_index <= position, AuditRetirement.end_index > position
    )


async def _one(tx: AsyncConnection, *conditions: Any) -> Retirement | None:  # noqa: ANN401
    found = await tx.execute(
        select(
            AuditRetirement.month,
            AuditRetirement.first_index,
            AuditRetirement.end_index,
            AuditRetirement.leaf_index,
            AuditRetirement.dropped_at,
        )
        .where(*conditions)
        .limit(1)
    )
    row = found.one_or_none()
    if row is None:
        return None
    span = Span(row.first_index, row.end_index)
    return Retirement(row.month, span, row.leaf_index, row.dropped_at)


async def hold_named(tx: AsyncConnection, name: str) -> Any:  # noqa: ANN401  (a row)
    """Return the hold of a name, in whatever case."""
    matching = func.lower(AuditLegalHold.name) == name.lower()
    return (await tx.execute(select(AuditLegalHold.__table__).where(matching))).one_or_none()


async def hold_with_id(tx: AsyncConnection, hold: UUID) -> Any:  # noqa: ANN401  (a row)
    """Return the hold of an id."""
    matching = AuditLegalHold.id == hold
    return (await tx.execute(select(AuditLegalHold.__table__).where(matching))).one_or_none()


async def holds(
    tx: AsyncConnection, *, before: UUID | None, released: bool, limit: int
) -> Sequence[Any]:
    """Return holds, the newest first, from the one before `before` on."""
    statement = select(AuditLegalHold.__table__).order_by(AuditLegalHold.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(AuditLegalHold.id < before)
    if not released:
        statement = statement.where(AuditLegalHold.released_at.is_(None))
    return (await tx.execute(statement)).all()
