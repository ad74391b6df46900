"""Short windows of the ledger, in order, for those who read it as it grows."""

from collections.abc import AsyncIterator
from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.audit.store import queries
from services.audit.store.queries import Filter, Leaves
from shared.db.models.audit import AuditLog, AuditRetirement

ROWS_AT_ONCE = 100


async def entries(
    tx: AsyncConnection, wanted: Filter, leaves: Leaves, limit: int
) -> AsyncIterator[Row[Any]]:
    """Yield the first `limit` matching entries of a range; few are in memory at a time."""
    statement = (
        select(AuditLog.__table__)
        .where(*queries.matches(wanted, leaves))
        .order_by(AuditLog.leaf_index)
        .limit(limit)
    )
    found = await tx.stream(statement, execution_options={"yield_per": ROWS_AT_ONCE})
    async for row in found:
        yield row


async def first_retirement(tx: AsyncConnection, leaves: Leaves) -> Row[int, int, int] | None:
    """Return the first interval of dropped entries that reaches into a range."""
    found = await tx.execute(
        select(AuditRetirement.first_index, AuditRetirement.end_index, AuditRetirement.leaf_index)
        .where(
            AuditRetirement.dropped_at.is_not(None),
            AuditRetirement.first_index < leaves.end,
            AuditRetirement.end_index > leaves.first,
        )
        .order_by(AuditRetirement.first_index)
        .limit(1)
    )
    return found.one_or_none()
