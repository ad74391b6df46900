"""Failed log-ins: the rows of an account, locked for the change that reads them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ARRAY,
    Boolean,
    Row,
    Text,
    bindparam,
    case,
    column,
    delete,
    func,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.throttling import ALL_SOURCES, Throttle, Throttles
from shared.db.models.identity import LoginThrottle

_table = LoginThrottle
_PLACES = (
    func.unnest(bindparam("places", type_=ARRAY(Text)))
    .table_valued(column("source", Text), name="place")
    .render_derived()
)
_MADE = insert(_table).from_select(
    ["account", "source"], select(bindparam("of_account", type_=Text), _PLACES.c.source)
)
# Built once: of each log-in, these are most of what is sent to the database.
_LOCK = _MADE.on_conflict_do_update(
    index_elements=[_table.account, _table.source], set_={"account": _MADE.excluded.account}
).returning(_table.__table__, func.clock_timestamp().label("now"))
_SAVE = (
    update(_table)
    .where(_table.account == bindparam("of_account"), _table.source == bindparam("of_source"))
    .values(
        failures=bindparam("failures"),
        refused=bindparam("refused"),
        compared_at=bindparam("compared_at"),
        delayed_until=bindparam("delayed_until"),
        locked_at=bindparam("locked_at"),
        recorded=case((bindparam("locked", type_=Boolean), _table.recorded)),
    )
)


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Log-ins to an account from a source that were refused and not recorded."""

    account: str
    source: str
    count: int


@dataclass(frozen=True, slots=True)
class Report:
    """How much of what happened to an account and a source has been recorded.

    `recorded` is the lock that was; `reported_at` when a refusal was, `suppressed` how many others
    were not.
    """

    recorded: str | None
    reported_at: datetime | None
    suppressed: int


async def locked(tx: AsyncConnection, account: str, source: str) -> tuple[Throttles, datetime]:
    """Return what is known of an account and a source, locked in this order, and the moment."""
    rows = await _locked(tx, account, source)
    return Throttles(_throttle(rows[ALL_SOURCES]), _throttle(rows[source])), rows[source].now


async def save(tx: AsyncConnection, account: str, source: str, after: Throttles) -> None:
    """Store what is known now; both rows are locked."""
    places = ((ALL_SOURCES, after.account), (source, after.source))
    rows = [
        {
            "of_account": account,
            "of_source": place,
            "failures": throttle.failures,
            "refused": throttle.refused,
            "compared_at": list(throttle.compared_at),
            "delayed_until": throttle.delayed_until,
            "locked_at": throttle.locked_at,
            "locked": throttle.lock is not None,
        }
        for place, throttle in places
    ]
    await tx.execute(_SAVE, rows)


async def report(tx: AsyncConnection, account: str, source: str) -> tuple[Throttle, Report, Report]:
    """Return the account's throttle, and what was recorded of account and source; locks both."""
    rows = await _locked(tx, account, source)
    return _throttle(rows[ALL_SOURCES]), _report(rows[ALL_SOURCES]), _report(rows[source])


async def note_lock(tx: AsyncConnection, account: str, recorded: str) -> None:
    """Store that the trail has been told of a lock."""
    await _change(tx, account, ALL_SOURCES, {"recorded": recorded})


async def note_report(tx: AsyncConnection, account: str, source: str, now: datetime) -> None:
    """Store that a refusal was recorded, with all that were suppressed before."""
    await _change(tx, account, source, {"reported_at": now, "suppressed": 0})


async def note_suppressed(tx: AsyncConnection, account: str, source: str) -> None:
    """Store that a refusal was not recorded."""
    await _change(tx, account, source, {"suppressed": _table.suppressed + 1})


async def forget(tx: AsyncConnection, account: str) -> int:
    """Unlock an account; return how many refusals were not recorded."""
    statement = delete(_table).where(_table.account == account).returning(_table.suppressed)
    return sum((await tx.execute(statement)).scalars())


async def take_suppressed(
    tx: AsyncConnection, now: datetime, reported_before: datetime, most: int
) -> Sequence[Suppressed]:
    """Return refusals that were suppressed for long enough, and count them as recorded."""
    due = (
        select(_table.account, _table.source, _table.suppressed)
        .where(_table.suppressed > 0, _table.reported_at < reported_before)
        .order_by(_table.account, _table.source)
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    found = [Suppressed(*row) for row in await tx.execute(due)]
    for one in found:
        await note_report(tx, one.account, one.source, now)
    return found


async def purge(
    tx: AsyncConnection, now: datetime, *, quiet: datetime, failed: datetime, most: int
) -> int:
    """Delete what nobody needs any more, `most` rows; return how many there were.

    Rows without failures, and those of names that nobody has, go when they have not changed since
    `quiet`; failures of users that are not locked since `failed`.
    """
    nobody = _table.account.startswith("name:")
    idle = ((_table.failures == 0) | nobody) & (_table.updated_at < quiet)
    old = (_table.source != ALL_SOURCES) & (_table.updated_at < failed)
    waiting = (_table.delayed_until > now) | (_table.suppressed > 0)
    rows = (
        select(_table.account, _table.source)
        .where(idle | old, func.coalesce(~waiting, True))
        .limit(most)
        .with_for_update(skip_locked=True)
    )
    key = tuple_(_table.account, _table.source)
    return (await tx.execute(delete(_table).where(key.in_(rows)))).rowcount


async def _locked(
    tx: AsyncConnection, account: str, source: str
) -> dict[str, Row[*tuple[Any, ...]]]:
    found = await tx.execute(_LOCK, {"of_account": account, "places": [ALL_SOURCES, source]})
    return {row.source: row for row in found}


async def _change(tx: AsyncConnection, account: str, source: str, values: dict[str, Any]) -> None:
    same = (_table.account == account, _table.source == source)
    await tx.execute(update(_table).where(*same).values(**values))


def _throttle(row: Row[*tuple[Any, ...]]) -> Throttle:
    return Throttle(
        row.failures, row.refused, tuple(row.compared_at), row.delayed_until, row.locked_at
    )


def _report(row: Row[*tuple[Any, ...]]) -> Report:
    return Report(row.recorded, row.reported_at, row.suppressed)
