"""The rows of the outbox that wait: read in order, marked, replaced, set aside."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from release_manager.audit.v1 import audit_pb2
from sqlalchemy import (
    ARRAY,
    SmallInteger,
    bindparam,
    column,
    func,
    select,
    text,
    true,
    update,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.models.outbox import OutboxEvent
from shared.errors import AggregateSequenceReused, EventIdReused, EventTooOld
from shared.outbox.append import PARTITIONS
from shared.outbox.tombstone import tombstone

# A tombstone has the id and the version of its event, and would be refused for the same reason.
_OF_ID_OR_VERSION = frozenset(
    error.reason for error in (EventIdReused, AggregateSequenceReused, EventTooOld)
)
_LOCK = text(
    "SELECT part FROM generate_series(0, :last) AS part"
    " WHERE pg_try_advisory_xact_lock(hashtext(:producer), part)"
)
_MARK = (
    update(OutboxEvent)
    .where(OutboxEvent.id == bindparam("row_id"))
    .values(sent_at=func.clock_timestamp(), leaf_index=bindparam("index"), last_error=None)
)
_PARTS = (
    func.unnest(bindparam("partitions", type_=ARRAY(SmallInteger)))
    .table_valued(column("number", SmallInteger), name="part")
    .render_derived()
)
# The oldest of each partition, then the oldest of those: however long the backlog, the index is
# read at as many places as there are partitions, and never to its end.
_OLDEST = (
    select(OutboxEvent.id, OutboxEvent.event_id, OutboxEvent.event, OutboxEvent.attempts)
    .where(
        OutboxEvent.producer == bindparam("producer"),
        OutboxEvent.partition == _PARTS.c.number,
        OutboxEvent.sent_at.is_(None),
        OutboxEvent.parked_at.is_(None),
    )
    .order_by(OutboxEvent.id)
    .limit(bindparam("most"))
    .lateral("oldest")
)
_PENDING = (
    select(_OLDEST)
    .select_from(_PARTS.join(_OLDEST, true()))
    .order_by(_OLDEST.c.id)
    .limit(bindparam("most"))
)


@dataclass(frozen=True, slots=True)
class Pending:
    """A row that waits. `attempts` counts how often the ledger has refused its event."""

    row_id: int
    event_id: UUID
    event: dict[str, Any]
    attempts: int


async def lock_partitions(tx: AsyncConnection, producer: str) -> list[int]:
    """Take every partition that no other replica holds, until the transaction ends."""
    found = await tx.execute(_LOCK, {"last": PARTITIONS - 1, "producer": producer})
    return list(found.scalars())


async def pending_in(
    tx: AsyncConnection, producer: str, partitions: Sequence[int], most: int
) -> list[Pending]:
    """Return the rows of the partitions that wait, in order, `most` at most."""
    if not partitions:
        return []
    wanted = {"producer": producer, "partitions": partitions, "most": most}
    return [Pending(*row) for row in await tx.execute(_PENDING, wanted)]


async def mark(tx: AsyncConnection, indexes: Mapping[int, int]) -> None:
    """Mark rows as delivered: by row id, where in the ledger the event is."""
    if indexes:
        marks = [{"row_id": row_id, "index": index} for row_id, index in indexes.items()]
        await tx.execute(_MARK, marks)


async def set_aside(tx: AsyncConnection, row: Pending, result: audit_pb2.AppendResult) -> None:
    """Replace an event that the ledger refuses by a tombstone; park what no tombstone could help.

    The refused original is kept in the row, so nothing is lost and nothing else waits for it.
    """
    values: dict[str, Any] = {
        "attempts": row.attempts + 1,
        "last_error": f"{result.reason}: {result.message}",
    }
    if row.attempts == 0 and result.reason not in _OF_ID_OR_VERSION:
        values["original"] = row.event
        values["event"] = tombstone(row.event, result.reason, result.message)
    else:
        values["parked_at"] = func.clock_timestamp()
    await tx.execute(update(OutboxEvent).where(OutboxEvent.id == row.row_id).values(**values))


async def delivered(tx: AsyncConnection, events: Collection[UUID]) -> dict[UUID, int]:
    """Return the leaf indexes of those events that are marked, whoever has delivered them."""
    if not events:
        return {}
    statement = select(OutboxEvent.event_id, OutboxEvent.leaf_index).where(
        OutboxEvent.event_id.in_(events), OutboxEvent.leaf_index.is_not(None)
    )
    found = await tx.execute(statement)
    return {event: index for event, index in found if index is not None}
