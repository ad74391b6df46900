"""Every aggregate of the catalog with its version, for the comparison with the ledger."""

from collections.abc import AsyncIterator

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.models import catalog, identity
from shared.db.schema import Versioned

AGGREGATES: dict[str, type[Versioned]] = {
    "team": catalog.Team,
    "service": catalog.Service,
    "environment": catalog.Environment,
    "release": catalog.Release,
    "runbook": catalog.Runbook,
    "user": identity.User,
    "session": identity.Session,
    "service_account": identity.ServiceAccount,
}


async def versions(tx: AsyncConnection) -> AsyncIterator[tuple[str, int]]:
    """Yield `kind:id` and version of each aggregate that was ever changed; seeds are version 0."""
    for kind, table in AGGREGATES.items():
        query = select(table.id, table.row_version).where(table.row_version > 0)
        async with tx.stream(query) as rows:
            async for row_id, version in rows:
                yield f"{kind}:{row_id}", version
