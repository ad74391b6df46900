"""The epochs of the ledger in the database, and the function that begins one."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.rules.events import Sealed
from services.audit.store.appending import COLUMNS, arrays
from services.audit.store.trees import ANY_SIZE
from shared.db.models.audit import (
    AuditCheckpoint,
    AuditEpoch,
    AuditKeptEntry,
    AuditLog,
    AuditLogHead,
    AuditRetirement,
)
from shared.merkle.checkpoint import origin_of

# One command that changes keys or epochs at a time; any number that nothing else locks.
COMMAND_LOCK = 0x6B65_7973
NOTES_AT_ONCE = 1_000
_PLACES = ", ".join(f"${number}" for number in range(1, COLUMNS + 5))
_NEW_EPOCH = f"SELECT audit_new_epoch({_PLACES})"


@dataclass(frozen=True, slots=True)
class Epoch:
    """A later epoch than the first: its number and name, and the entry that began it.

    Earlier checkpoints hold up to `fork` entries; `note` is the last one that was published
    before, "" when none was. `entry` has some columns of the entry by name, if it is there.
    """

    number: int
    origin: str
    leaf_index: int
    fork: int
    note: str
    entry: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Stored checkpoints that no longer hold: how many, and the SHA-256 over their notes."""

    count: int
    sha256: str


async def lock_commands(tx: AsyncConnection) -> None:
    """Wait until no other command changes keys or epochs; held to the end of the transaction."""
    await tx.execute(select(func.pg_advisory_xact_lock(COMMAND_LOCK)))


async def lock_head(tx: AsyncConnection) -> tuple[int, int]:
    """Stop appending to the end of the transaction; return the epoch and the next index."""
    found = select(AuditLogHead.epoch, AuditLogHead.next_index).with_for_update()
    row = (await tx.execute(found)).one()
    return row.epoch, row.next_index


async def later_epochs(tx: AsyncConnection) -> list[Epoch]:
    """Return all epochs but the first, in order."""
    kept = AuditKeptEntry.entry
    epochs = await tx.execute(
        select(
            AuditEpoch.epoch,
            AuditEpoch.origin,
            AuditEpoch.leaf_index,
            AuditEpoch.fork,
            AuditEpoch.note,
            # Of a month that was retired since, entries about the ledger are kept.
            func.coalesce(AuditLog.action, kept["action"].astext),
            func.coalesce(AuditLog.resource_type, kept["resource_type"].astext),
            func.coalesce(AuditLog.producer, kept["producer"].astext),
            func.coalesce(AuditLog.details, kept["details"]),
        )
        .outerjoin(AuditLog, AuditLog.leaf_index == AuditEpoch.leaf_index)
        .outerjoin(AuditKeptEntry, AuditKeptEntry.leaf_index == AuditEpoch.leaf_index)
        .where(AuditEpoch.epoch > 0)
        .order_by(AuditEpoch.epoch)
    )
    return [
        Epoch(number, origin, leaf_index, fork, note or "", _entry(entry))
        for number, origin, leaf_index, fork, note, *entry in epochs
    ]


def _entry(columns: Sequence[Any]) -> dict[str, Any] | None:
    names = ("action", "resource_type", "producer", "details")
    return None if columns[0] is None else dict(zip(names, columns, strict=True))


async def newest_number(tx: AsyncConnection) -> int:
    """Return the number of the epoch that was begun last."""
    return (await tx.execute(select(func.max(AuditEpoch.epoch)))).scalar_one()


async def forks(tx: AsyncConnection) -> list[Epoch]:
    """Return all epochs but the first, in order, without their entries."""
    found = await tx.execute(
        select(
            AuditEpoch.epoch,
            AuditEpoch.origin,
            AuditEpoch.leaf_index,
            AuditEpoch.fork,
            AuditEpoch.note,
        )
        .where(AuditEpoch.epoch > 0)
        .order_by(AuditEpoch.epoch)
    )
    return [
        Epoch(number, origin, leaf_index or 0, fork or 0, note or "", None)
        for number, origin, leaf_index, fork, note in found
    ]


async def abandoned(
    tx: AsyncConnection, numbers: Sequence[int], forks: Sequence[int], number: int
) -> Abandoned:
    """Digest the stored checkpoints that held until the epoch `number` began, and do not since.

    `numbers` are those of all later epochs in order, `forks` where each forks.
    """
    later = dict(zip(numbers, forks, strict=True))
    digest, count = sha256(), 0
    for earlier in [0, *(other for other in numbers if other < number)]:
        until = [fork for other, fork in later.items() if earlier < other < number]
        above, holds_to = later[number], min(until, default=ANY_SIZE)
        found = NOTES_AT_ONCE
        while found == NOTES_AT_ONCE:
            size = AuditCheckpoint.tree_size
            wanted = select(size, AuditCheckpoint.note).where(
                AuditCheckpoint.epoch == earlier, size > above, size <= holds_to
            )
            rows = (await tx.execute(wanted.order_by(size).limit(NOTES_AT_ONCE))).all()
            for row in rows:
                digest.update(row.note.encode())
                above = row.tree_size
            found = len(rows)
            count += found
    return Abandoned(count, digest.hexdigest())


async def is_told(
    tx: AsyncConnection, producer: str, action: str, resource_type: str, resource_id: str
) -> bool:
    """Tell whether there is an entry of this producer and action about this thing."""
    found = select(AuditLog.leaf_index).where(
        AuditLog.resource_type == resource_type,
        AuditLog.resource_id == resource_id,
        AuditLog.action == action,
        AuditLog.producer == producer,
    )
    return (await tx.execute(found.limit(1))).first() is not None


async def stray_entries(tx: AsyncConnection, end: int) -> int:
    """Count the entries at `end` and beyond, where none should be."""
    found = select(func.count()).select_from(AuditLog).where(AuditLog.leaf_index >= end)
    return (await tx.execute(found)).scalar_one()


async def retired_up_to(tx: AsyncConnection) -> int:
    """Return the position after the last dropped entry; of these only tiles have the leaves."""
    dropped = AuditRetirement.dropped_at.is_not(None)
    found = select(func.coalesce(func.max(AuditRetirement.end_index), 0)).where(dropped)
    return (await tx.execute(found)).scalar_one()


async def may_begin(tx: AsyncConnection) -> bool:
    """Tell whether this login may call the function, as only the owner may."""
    found = text(
        "SELECT bool_and(has_function_privilege(oid, 'EXECUTE')) FROM pg_proc"
        " WHERE proname = 'audit_new_epoch' AND pronamespace = 'public'::regnamespace"
    )
    return bool((await tx.execute(found)).scalar_one())


async def begin(tx: AsyncConnection, number: int, fork: int, note: str, entry: Sealed) -> int:
    """Begin an epoch with its entry; return where that is."""
    raw = await tx.get_raw_connection()
    driver: Any = raw.driver_connection
    given = (number, origin_of(number), fork, note or None, *arrays([entry]))
    index: int = await driver.fetchval(_NEW_EPOCH, *given)
    return index
