"""The tree of the ledger in the database: tiles, checkpoints, and the leaves they come from."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

import asyncpg
from sqlalchemy import func, select, text, true
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from services.audit.rules.tiles import TileKey
from services.audit.store.appending import Driver
from shared.db.models.audit import AuditCheckpoint, AuditEpoch, AuditLog, AuditLogHead, MerkleTile

# Any number that nothing else locks.
INTEGRATION_LOCK = 0x6C65_6467_6572
ANY_SIZE = 2**63 - 1
COLUMNS = ", ".join(
    f"{column.name}::text" if column.name == "details" else column.name
    for column in AuditLog.__table__.columns
)
_TILES = text("""
    SELECT t.level, t.tile, t.hashes
    FROM unnest(CAST(:levels AS smallint[]), CAST(:places AS bigint[])) AS wanted (level, tile)
    JOIN merkle_tiles AS t ON t.level = wanted.level AND t.tile = wanted.tile
""")
_WRITE_AHEAD = text("""
    SELECT pg_logical_emit_message(true, 'release_manager', 'ledger'),
        CASE WHEN current_setting('synchronous_commit') IN ('off', 'local')
            THEN set_config('synchronous_commit', 'on', true) END
""")
_ROWS = f"""
    SELECT {COLUMNS} FROM audit_logs WHERE leaf_index >= $1 AND leaf_index < $2
    ORDER BY leaf_index, id
"""  # noqa: S608  (names of columns)


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A row of `audit_checkpoints`."""

    size: int
    root: bytes
    note: str
    epoch: int = 0


@dataclass(frozen=True, slots=True)
class Head:
    """The name of the log and how many entries it has."""

    origin: str
    next_index: int


async def lock_integration(tx: AsyncConnection) -> None:
    """Wait until nobody else integrates; held to the end of the transaction."""
    await tx.execute(select(func.pg_advisory_xact_lock(INTEGRATION_LOCK)))


async def head(tx: AsyncConnection) -> Head:
    """Return the head of the ledger."""
    row = (await tx.execute(select(AuditLogHead.origin, AuditLogHead.next_index))).one()
    return Head(row.origin, row.next_index)


async def newest_checkpoint(tx: AsyncConnection) -> StoredCheckpoint | None:
    """Return the checkpoint of the largest tree that is still that of the ledger."""
    found = await checkpoints(tx, newest=True, limit=1)
    return found[0] if found else None


async def checkpoint_at(tx: AsyncConnection, size: int) -> StoredCheckpoint | None:
    """Return the checkpoint of a tree, if exactly that one was signed."""
    found = await checkpoints(tx, above=size - 1, limit=1)
    return found[0] if found and found[0].size == size else None


async def checkpoints(
    tx: AsyncConnection, *, above: int = -1, newest: bool = False, limit: int
) -> list[StoredCheckpoint]:
    """Return checkpoints of trees larger than `above`, the smallest or largest first.

    Those of an epoch beyond where a later one forks are no longer checkpoints of the ledger.
    """
    later = aliased(AuditEpoch)
    forks = select(func.min(later.fork)).where(later.epoch > AuditEpoch.epoch)
    holds_to = func.coalesce(forks.correlate(AuditEpoch).scalar_subquery(), ANY_SIZE)
    epochs = select(AuditEpoch.epoch, holds_to.label("holds_to")).subquery("epochs")
    size = AuditCheckpoint.tree_size
    of_one = (
        select(size, AuditCheckpoint.root, AuditCheckpoint.note, AuditCheckpoint.epoch)
        .where(
            AuditCheckpoint.epoch == epochs.c.epoch,
            size > above,
            size <= epochs.c.holds_to,
        )
        .order_by(size.desc() if newest else size)
        .limit(limit)
        .lateral("of_one")
    )
    # The place in each epoch is found by the primary key; epochs are few.
    columns = (of_one.c.epoch, of_one.c.tree_size)
    order = [column.desc() for column in columns] if newest else columns
    found = await tx.execute(
        select(of_one.c.tree_size, of_one.c.root, of_one.c.note, of_one.c.epoch)
        .select_from(epochs)
        .join(of_one, true())
        .order_by(*order)
        .limit(limit)
    )
    return [StoredCheckpoint(*row) for row in found]


async def tiles(tx: AsyncConnection, keys: Collection[TileKey]) -> dict[TileKey, bytes]:
    """Return those of the tiles that are there."""
    wanted = {
        "levels": [key.level for key in keys],
        "places": [key.place for key in keys],
    }
    rows = await tx.execute(_TILES, wanted)
    return {TileKey(level, tile): hashes for level, tile, hashes in rows}


async def write_ahead(tx: AsyncConnection) -> None:
    """Let the commit of this transaction wait for the disks, as if it had changed something.

    When that returns, all that anybody saw before is on them, those of a synchronous standby
    included; what is seen need not be, when the backend that committed it was cut off.
    """
    await tx.execute(_WRITE_AHEAD)


async def put_tiles(tx: AsyncConnection, changed: Mapping[TileKey, bytes]) -> None:
    """Store tiles that are new or longer than before."""
    added = insert(MerkleTile)
    rows = [
        {"level": key.level, "tile": key.place, "hashes": hashes} for key, hashes in changed.items()
    ]
    await tx.execute(
        added.on_conflict_do_update(
            index_elements=[MerkleTile.level, MerkleTile.tile],
            set_={"hashes": added.excluded.hashes},
        ),
        rows,
    )


async def put_checkpoint(tx: AsyncConnection, checkpoint: StoredCheckpoint) -> None:
    """Store a checkpoint, the first one for its size in its epoch."""
    await tx.execute(
        insert(AuditCheckpoint).values(
            tree_size=checkpoint.size,
            root=checkpoint.root,
            note=checkpoint.note,
            epoch=checkpoint.epoch,
        )
    )


async def leaves(tx: AsyncConnection, first: int, end: int) -> list[tuple[int, bytes]]:
    """Return leaf index and leaf hash of the entries of a range, in order."""
    found = await tx.execute(
        select(AuditLog.leaf_index, AuditLog.leaf_hash)
        .where(AuditLog.leaf_index >= first, AuditLog.leaf_index < end)
        .order_by(AuditLog.leaf_index)
    )
    return [(row.leaf_index, row.leaf_hash) for row in found]


async def ends(tx: AsyncConnection) -> tuple[int | None, int | None]:
    """Return the lowest and the highest leaf index that is there, whatever the head says."""
    lowest = await tx.execute(select(func.min(AuditLog.leaf_index)))
    highest = await tx.execute(select(func.max(AuditLog.leaf_index)))
    return lowest.scalar_one(), highest.scalar_one()


async def first_since(tx: AsyncConnection, moment: datetime) -> int | None:
    """Return the first entry that was stored at or after a moment, None when there is none."""
    found = await tx.execute(
        select(AuditLog.leaf_index)
        .where(AuditLog.created_at >= moment)
        .order_by(AuditLog.created_at, AuditLog.leaf_index)
        .limit(1)
    )
    return found.scalar_one_or_none()


async def rows(driver: Driver, first: int, end: int) -> list[asyncpg.Record]:
    """Return every column of the entries of a range, `details` as text, in order."""
    return await driver.fetch(_ROWS, first, end)
