"""What is kept beside the entries, read for a verification: head, tiles beyond the end, keys."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

_HEAD = text("""
    SELECT h.next_index, h.origin, h.epoch, h.last_at, e.origin AS said_origin,
        e.epoch AS said_epoch, l.created_at AS newest_at
    FROM audit_log_head AS h
    LEFT JOIN LATERAL (SELECT * FROM audit_epochs ORDER BY epoch DESC LIMIT 1) AS e ON true
    LEFT JOIN audit_logs AS l ON l.leaf_index = h.next_index - 1
    LIMIT 1
""")
_BEYOND = text("""
    SELECT level, tile FROM merkle_tiles
    WHERE tile::numeric * 256 + octet_length(hashes) / 32 > :size >> (8 * level)
    ORDER BY level, tile LIMIT 1
""")
# Probes of the index, a window of entries at a time: a join of all would hash every key each time.
_PROBING = tuple(
    text(f"SET LOCAL enable_{plan} = off") for plan in ("hashjoin", "mergejoin", "seqscan")
)
_KEY_OF_ENTRY = text("""
    SELECT min(l.leaf_index) FROM audit_logs AS l
    LEFT JOIN audit_event_keys AS k ON k.event_id = l.event_id
    WHERE l.leaf_index >= :first AND l.leaf_index < :end
        AND (k.leaf_index, k.audit_log_id, k.producer, k.aggregate, k.aggregate_seq, k.created_at)
            IS DISTINCT FROM
            (l.leaf_index, l.id, l.producer, l.aggregate, l.aggregate_seq, l.created_at)
""")
_COUNTED = text("""
    SELECT count(*) FILTER (WHERE k.leaf_index < :entries) AS keys,
        min(k.leaf_index) FILTER (WHERE k.leaf_index >= h.next_index) AS beyond
    FROM audit_event_keys AS k, audit_log_head AS h
""")
_KEY_OF_NOTHING = text("""
    SELECT min(k.leaf_index) FROM audit_event_keys AS k
    WHERE k.leaf_index < :entries AND NOT EXISTS (
        SELECT FROM audit_logs AS l WHERE l.leaf_index = k.leaf_index AND l.event_id = k.event_id
    ) AND NOT EXISTS (
        SELECT FROM audit_retirements AS r WHERE r.dropped_at IS NOT NULL
            AND k.leaf_index >= r.first_index AND k.leaf_index < r.end_index
    )
""")


@dataclass(frozen=True, slots=True)
class HeadAndNewest:
    """The head, and what it must agree with: the newest epoch and the newest entry, if any."""

    next_index: int
    origin: str
    epoch: int
    last_at: datetime
    said_origin: str | None
    said_epoch: int | None
    newest_at: datetime | None


async def head_and_newest(tx: AsyncConnection) -> HeadAndNewest | None:
    """Return the head and what it must agree with; None when there is no head."""
    row = (await tx.execute(_HEAD)).one_or_none()
    return None if row is None else HeadAndNewest(*row)


async def tile_beyond(tx: AsyncConnection, size: int) -> tuple[int, int] | None:
    """Return level and place of the first tile with more hashes than the tree of `size` has."""
    row = (await tx.execute(_BEYOND, {"size": size})).one_or_none()
    return None if row is None else (row.level, row.tile)


async def wrong_key(tx: AsyncConnection, first: int, end: int) -> int | None:
    """Return the first entry of a range whose event has no key, or one that says otherwise."""
    for setting in _PROBING:
        await tx.execute(setting)
    found: int | None = await tx.scalar(_KEY_OF_ENTRY, {"first": first, "end": end})
    return found


async def key_too_many(tx: AsyncConnection, entries: int) -> int | None:
    """Return the position of a key without an entry, of those before `entries` and of later ones.

    Each entry before must have its key.
    """
    row = (await tx.execute(_COUNTED, {"entries": entries})).one()
    if row.keys != entries:
        found: int | None = await tx.scalar(_KEY_OF_NOTHING, {"entries": entries})
        if found is not None:
            return found
    beyond: int | None = row.beyond
    return beyond
