"""Every aggregate of this service with its version, for the comparison with the ledger."""

from collections.abc import AsyncIterator

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.models.deployment import Deployment, EnvironmentPolicy, ReleaseMark
from shared.db.models.restrictions import FreezeWindow, GateOverride, Lock

RECORDED = {
    "deployment": select(Deployment.id, Deployment.row_version).where(Deployment.row_version > 0),
    "policy": select(EnvironmentPolicy.environment_id, func.max(EnvironmentPolicy.row_version))
    .where(EnvironmentPolicy.row_version > 0)
    .group_by(EnvironmentPolicy.environment_id),
    "release_mark": select(ReleaseMark.id, ReleaseMark.row_version).where(
        ReleaseMark.row_version > 0
    ),
    "lock": select(Lock.id, Lock.row_version).where(Lock.row_version > 0),
    "gate_override": select(GateOverride.id, GateOverride.row_version).where(
        GateOverride.row_version > 0
    ),
    "freeze_window": select(FreezeWindow.id, FreezeWindow.row_version).where(
        FreezeWindow.row_version > 0
    ),
}


async def versions(tx: AsyncConnection) -> AsyncIterator[tuple[str, int]]:
    """Yield `kind:id` and version of each aggregate that has entries; seeds are version 0."""
    for kind, query in RECORDED.items():
        async with tx.stream(query) as rows:
            async for row_id, version in rows:
                yield f"{kind}:{row_id}", version
