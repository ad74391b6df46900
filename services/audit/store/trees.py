"""The tree of the ledger in the database: tiles, checkpoints, and the leaves they come from."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import asyncpg
from sqlalchemy import func, select, tuple_
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.rules.tiles import TileKey
from services.audit.store.appending import Driver
from shared.db.models.audit import AuditCheckpoint, AuditLog, AuditLogHead, MerkleTile

# Any number that nothing else locks.
INTEGRATION_LOCK = 0x6C65_6467_6572
TILES_AT_ONCE = 1_000
_COLUMNS = ", ".join(
    f"{column.name}::text" if column.name == "details" else column.name
    for column in AuditLog.__table__.columns
)
_ROWS = f"""
    SELECT {_COLUMNS} FROM audit_logs WHERE leaf_index >= $1 AND leaf_index < $2
    ORDER BY leaf_index, id
"""  # noqa: S608  (names of columns)


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """A row of `audit_checkpoints`."""

    size: int
    root: bytes
    note: str


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
    """Return the checkpoint of the largest tree."""
    found = await checkpoints(tx, newest=True, limit=1)
    return found[0] if found else None


async def checkpoint_at(tx: AsyncConnection, size: int) -> StoredCheckpoint | None:
    """Return the checkpoint of a tree, if exactly that one was signed."""
    found = await checkpoints(tx, above=size - 1, limit=1)
    return found[0] if found and found[0].size == size else None


async def checkpoints(
    tx: AsyncConnection, *, above: int = -1, newest: bool = False, limit: int
) -> list[StoredCheckpoint]:
    """Return checkpoints of trees larger than `above`, the smallest or largest first."""
    order = AuditCheckpoint.tree_size.desc() if newest else AuditCheckpoint.tree_size
    found = await tx.execute(
        select(AuditCheckpoint.tree_size, AuditCheckpoint.root, AuditCheckpoint.note)
        .where(AuditCheckpoint.tree_size > above)
        .order_by(order)
        .limit(limit)
    )
    return [StoredCheckpoint(*row) for row in found]


async def tiles(tx: AsyncConnection, keys: Collection[TileKey]) -> dict[TileKey, bytes]:
    """Return those of the tiles that are there."""
    wanted = sorted(keys)
    found: dict[TileKey, bytes] = {}
    for first in range(0, len(wanted), TILES_AT_ONCE):
        rows = await tx.execute(
            select(MerkleTile.level, MerkleTile.tile, MerkleTile.hashes).where(
                tuple_(MerkleTile.level, MerkleTile.tile).in_(wanted[first : first + TILES_AT_ONCE])
            )
        )
        found |= {TileKey(level, tile): hashes for level, tile, hashes in rows}
    return found


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
    """Store a checkpoint, the first one for its size."""
    await tx.execute(
        insert(AuditCheckpoint).values(
            tree_size=checkpoint.size, root=checkpoint.root, note=checkpoint.note
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


async def rows(driver: Driver, first: int, end: int) -> list[asyncpg.Record]:
    """Return every column of the entries of a range, `details` as text, in order."""
    return await driver.fetch(_ROWS, first, end)
