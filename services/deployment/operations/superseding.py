"""What a new deployment does to those that wait where the newest one counts."""

from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations import moves
from services.deployment.operations.asking import Asked
from services.deployment.rules.lifecycle import Action, DeploymentStatus, advance
from services.deployment.rules.policy import QueueMode
from services.deployment.store import histories
from services.deployment.store.histories import HistoryRow
from shared.outbox.change import Change


async def superseded_by(tx: AsyncConnection, asked: Asked) -> list[HistoryRow]:
    """Return what waits for the pair and whose place the request takes, the oldest first."""
    if asked.policy.queue is not QueueMode.SUPERSEDE:
        return []
    return await histories.waiting(tx, asked.service.id, asked.environment.id)


async def supersede_waiting(change: Change, asked: Asked, newer_id: UUID) -> tuple[UUID, ...]:
    """End what waits for the pair, which this change holds, and let it name the newer one.

    Returns who was superseded, the oldest first; nobody unless the policy says so.
    """
    before = [row for row in await superseded_by(change.tx, asked) if row.id != newer_id]
    for row in before:
        to = advance(DeploymentStatus(row.status), Action.SUPERSEDE)
        await moves.move(
            change,
            row,
            to,
            "supersede",
            details={"superseded_by": newer_id},
            status_reason=f"{asked.release.version} was requested there later.",
            superseded_by=newer_id,
        )
    return tuple(row.id for row in before)
