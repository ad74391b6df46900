"""Leases: a row as long as an executor drives a deployment, read and written under its pair."""

from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Select, case, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.rules.leases import Lease
from shared.db.models.deployment import Deployment, PipelineStage
from shared.db.models.execution import DeadlineWatch, DeploymentLease
from shared.db.models.identity import User
from shared.db.schema import Row
from shared.ids import new_id

RUNNING: Final = ("in-progress", "paused", "cancelling")
# What runs out while nothing may be changed has at least this long to report afterwards.
GRACE: Final = timedelta(minutes=1)

# When no replica has looked for so long, executors may not have been able to report either.
AWAY: Final = timedelta(seconds=15)
_NOW: Final = func.clock_timestamp()
_LENGTH: Final = func.make_interval(0, 0, 0, 0, 0, 0, DeploymentLease.duration_seconds)
_LOOKED: Final = select(DeadlineWatch.looked_at).scalar_subquery()
_AWAY: Final = func.coalesce(_NOW - _LOOKED > AWAY, True)
# When nobody could report or decide last; as long as nobody looks again, that is now.
STOOD_STILL_UNTIL: Final[ColumnElement[datetime | None]] = case(
    (_AWAY, _NOW), else_=select(DeadlineWatch.stood_still_until).scalar_subquery()
)
# Until somebody looks again, which makes all leases stand still, none is over.
_ENDS: Final = case(
    (_AWAY, func.greatest(DeploymentLease.expires_at, _NOW + _LENGTH)),
    else_=DeploymentLease.expires_at,
)

_LEASES: Final[Select[*tuple[Any, ...]]] = select(
    DeploymentLease.deployment_id,
    DeploymentLease.token,
    DeploymentLease.executor,
    DeploymentLease.holder_id,
    User.username,
    DeploymentLease.duration_seconds,
    DeploymentLease.claimed_at,
    _ENDS,
).join(User, User.id == DeploymentLease.holder_id)


async def held(tx: AsyncConnection, deployment_id: UUID) -> Lease | None:
    """Return the same as `of`, and let nothing that goes past the pair move its end meanwhile.

    What does so at this moment, as output renews a lease, is waited for: it was in time.
    """
    query = _LEASES.where(DeploymentLease.deployment_id == deployment_id)
    return await _lease(tx, query.with_for_update(key_share=True, of=DeploymentLease))


async def of(tx: AsyncConnection, deployment_id: UUID) -> Lease | None:
    """Return the lease of a deployment, also one whose time is over; None if nobody has claimed."""
    return await _lease(tx, _LEASES.where(DeploymentLease.deployment_id == deployment_id))


async def _lease(tx: AsyncConnection, query: Select[*tuple[Any, ...]]) -> Lease | None:
    row = (await tx.execute(query)).one_or_none()
    if row is None:
        return None
    return Lease(
        deployment_id=row[0],
        token=row[1],
        executor=row[2],
        holder_id=row[3],
        holder=row[4],
        duration=timedelta(seconds=row[5]),
        claimed_at=row[6],
        expires_at=row[7],
    )


async def add(tx: AsyncConnection, lease: Lease) -> None:
    """Insert the lease of a deployment that has none."""
    await tx.execute(
        insert(DeploymentLease).values(
            id=new_id(),
            deployment_id=lease.deployment_id,
            token=lease.token,
            executor=lease.executor,
            holder_id=lease.holder_id,
            duration_seconds=int(lease.duration.total_seconds()),
            claimed_at=lease.claimed_at,
            expires_at=lease.expires_at,
            created_at=lease.claimed_at,
            updated_at=lease.claimed_at,
        )
    )


async def renew(tx: AsyncConnection, deployment_id: UUID, expires_at: datetime) -> None:
    """Move the end of a lease on, never back."""
    await tx.execute(
        update(DeploymentLease)
        .where(DeploymentLease.deployment_id == deployment_id)
        .values(expires_at=func.greatest(DeploymentLease.expires_at, expires_at))
    )


async def renew_if_free(tx: AsyncConnection, deployment_id: UUID, expires_at: datetime) -> None:
    """Move the end of a lease on unless somebody changes it just now: nobody is waited for."""
    free = _free(DeploymentLease, DeploymentLease.deployment_id == deployment_id)
    await tx.execute(
        update(DeploymentLease)
        .where(DeploymentLease.id.in_(free), DeploymentLease.expires_at < expires_at)
        .values(expires_at=expires_at)
    )


async def end(tx: AsyncConnection, deployment_id: UUID) -> str | None:
    """End the lease of a deployment; return its executor, None if there was no lease."""
    ended = (
        delete(DeploymentLease)
        .where(DeploymentLease.deployment_id == deployment_id)
        .returning(DeploymentLease.executor)
    )
    return (await tx.execute(ended)).scalar_one_or_none()


async def nobody_has_looked(tx: AsyncConnection) -> bool:
    """Say whether executors may not have been able to report, as all replicas were away."""
    return bool(await tx.scalar(select(_AWAY)))


async def note_look(tx: AsyncConnection, *, stood_still: bool) -> None:
    """Store that this replica has looked for what is due, and whether all stood still until now."""
    seen = {"looked_at": _NOW, **({"stood_still_until": _NOW} if stood_still else {})}
    looked = insert(DeadlineWatch).values(id=1, **seen)
    again = {name: looked.excluded[name] for name in seen}
    await tx.execute(looked.on_conflict_do_update(index_elements=["id"], set_=again))


async def stand_still(tx: AsyncConnection, now: datetime) -> None:
    """Give every lease its full length again, and what is due soon a moment to report.

    No version: nothing has changed but when to look again. What somebody changes just now is left
    to the next look, so that nobody waits in a circle.
    """
    whole = now + _LENGTH
    await tx.execute(
        update(DeploymentLease)
        .where(DeploymentLease.id.in_(_free(DeploymentLease, DeploymentLease.expires_at < whole)))
        .values(expires_at=whole)
    )
    soon = now + GRACE
    stages = (PipelineStage.status == "in-progress", PipelineStage.deadline < soon)
    await tx.execute(
        update(PipelineStage)
        .where(PipelineStage.id.in_(_free(PipelineStage, *stages)))
        .values(deadline=soon)
    )
    held = (Deployment.status.in_(RUNNING), Deployment.deadline < soon)
    await tx.execute(
        update(Deployment).where(Deployment.id.in_(_free(Deployment, *held))).values(deadline=soon)
    )


def _free(table: type[Row], *conditions: ColumnElement[bool]) -> Select[UUID]:
    """Return the ids of the rows that nobody changes just now."""
    return select(table.id).where(*conditions).with_for_update(skip_locked=True, key_share=True)
