"""The append function of the ledger, as the service calls it: one statement, one transaction."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from itertools import islice
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from services.audit.rules.events import Sealed

COLUMNS = 16
DETAILS = Sealed._fields.index("details")
_PLACES = ", ".join(f"${number}" for number in range(1, COLUMNS + 1))
APPEND = f"SELECT * FROM audit_append({_PLACES}) ORDER BY o_position"  # noqa: S608
_PAST_PLACES = f"{_PLACES}, ${COLUMNS + 1}"
APPEND_PAST = f"SELECT * FROM audit_append_past({_PAST_PLACES}) ORDER BY o_position"  # noqa: S608
ENSURE_PARTITIONS = "SELECT audit_ensure_partitions($1, $2)"

Driver: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


class Placed(NamedTuple):
    """What the ledger made of one event.

    `outcome` is `appended`, `duplicate`, `event_id_reused` or `aggregate_sequence_reused`; for all
    but the first, the other fields speak of the entry that was there, and `event_id` of its event.
    """

    outcome: str
    leaf_index: int
    audit_log_id: UUID
    created_at: datetime
    event_id: UUID


@asynccontextmanager
async def driver_connection(engine: AsyncEngine) -> AsyncIterator[Driver]:
    """Lend a connection of the pool as the driver sees it, outside of any transaction.

    Leaving the block by an exception, a cancellation included, drops the connection: nobody can
    say what it still waits for.
    """
    async with engine.connect() as connection:
        raw = await connection.get_raw_connection()
        driver: Any = raw.driver_connection
        if driver.is_closed():  # by the server, while it lay in the pool
            await connection.invalidate()
            raw = await connection.get_raw_connection()
            driver = raw.driver_connection
        try:
            yield driver
        except BaseException as error:
            if driver.is_closed() or not isinstance(error, asyncpg.PostgresError):
                await connection.invalidate()
            raise


def arrays(events: Sequence[Sealed]) -> list[list[Any]]:
    """Return the parameters of `audit_append`: one array for each column, one element an event."""
    columns = [list(column) for column in islice(zip(*events, strict=True), COLUMNS)]
    columns[DETAILS] = [details.decode() for details in columns[DETAILS]]
    return columns


async def append(driver: Driver, events: Sequence[Sealed]) -> list[Placed]:
    """Append events in order, in one transaction of its own; one result for each."""
    return _placed(await driver.fetch(APPEND, *arrays(events)))


async def append_past(
    driver: Driver, events: Sequence[Sealed], created_at: Sequence[datetime]
) -> list[Placed]:
    """Append the first entries of a ledger with times of the past, in order.

    Only the owner of the tables may, and only while the ledger is empty.
    """
    return _placed(await driver.fetch(APPEND_PAST, *arrays(events), list(created_at)))


async def ensure_partitions(driver: Driver, first_month: date, months: int) -> int:
    """Make the partitions of `months` months from `first_month` on; return how many were made."""
    made: int = await driver.fetchval(ENSURE_PARTITIONS, first_month, months)
    return made


def _placed(records: Sequence[asyncpg.Record]) -> list[Placed]:
    return [Placed._make(record[1:]) for record in records]
