"""What watching reads: which deployments have changed, and which ones make up the current state."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Uuid, cast, func, or_, select, true, union
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from shared.db.models.catalog import Environment, Service
from shared.db.models.deployment import Deployment

OPEN = ("pending", "in-progress", "paused", "cancelling")


@dataclass(frozen=True, slots=True)
class Header:
    """Of a deployment its version, and what of it never changes and can be chosen by."""

    id: UUID
    version: int
    service_id: UUID
    environment_id: UUID
    release_id: UUID
    deployed_by: UUID
    kind: str


@dataclass(frozen=True, slots=True)
class Choice:
    """Which deployments somebody watches; None is any. It can be compared and is a key."""

    service_id: UUID | None = None
    environment_id: UUID | None = None
    release_id: UUID | None = None
    deployed_by: UUID | None = None
    kind: str | None = None
    ids: frozenset[UUID] | None = None

    def covers(self, header: Header) -> bool:
        """Say whether a deployment is one of them."""
        return (self.ids is None or header.id in self.ids) and all(
            wanted is None or wanted == getattr(header, name)
            for name, wanted in self._columns().items()
        )

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the same as conditions on the table."""
        found: list[ColumnElement[bool]] = [
            getattr(Deployment, name) == wanted
            for name, wanted in self._columns().items()
            if wanted is not None
        ]
        if self.ids is not None:
            found.append(_one_of(self.ids))
        return found

    def _columns(self) -> dict[str, UUID | str | None]:
        return {
            field.name: getattr(self, field.name) for field in fields(self) if field.name != "ids"
        }


async def changed(
    tx: AsyncConnection, ids: Collection[UUID], since: datetime | None
) -> tuple[list[Header], datetime]:
    """Return these deployments and those changed since a moment, and the moment they are of.

    What was committed before that moment is seen, since it is when the transaction began.
    """
    chosen = _one_of(ids)
    if since is not None:
        chosen = or_(chosen, Deployment.updated_at >= since)
    headers = (
        Deployment.id,
        Deployment.row_version,
        Deployment.service_id,
        Deployment.environment_id,
        Deployment.release_id,
        Deployment.deployed_by,
        Deployment.kind,
    )
    rows = (await tx.execute(select(*headers).where(chosen))).all()
    return [Header(*row) for row in rows], await moment(tx)


async def present(tx: AsyncConnection, ids: Collection[UUID]) -> set[UUID]:
    """Return those of these deployments that exist."""
    return set((await tx.execute(select(Deployment.id).where(_one_of(ids)))).scalars())


async def moment(tx: AsyncConnection) -> datetime:
    """Return when the transaction began, by the database's clock."""
    return (await tx.execute(select(func.now()))).scalar_one()


async def current(tx: AsyncConnection, choice: Choice, since: datetime | None) -> Sequence[UUID]:
    """Return what makes up the current state, the oldest request first.

    That is what is open, what is live, what was changed since a moment, and what was named.
    """
    parts = [select(Deployment.id).where(*choice.conditions())]
    if choice.ids is None:
        is_open = Deployment.status.in_(OPEN)
        parts = [parts[0].where(is_open), _live(choice)]
        if since is not None:
            changed_since = Deployment.updated_at >= since
            parts.append(select(Deployment.id).where(*choice.conditions(), changed_since))
    found = union(*parts).subquery()
    statement = select(found.c.id).order_by(found.c.id)
    return (await tx.execute(statement)).scalars().all()


def _live(choice: Choice) -> Select[UUID]:
    """Return the query for what is live: one look at an index for each pair."""
    newest = aliased(Deployment)
    live = (
        select(newest.id)
        .where(
            newest.service_id == Service.id,
            newest.environment_id == Environment.id,
            newest.status == "completed",
            newest.completed_seq.is_not(None),  # says that the index on it can be used
        )
        .order_by(newest.completed_seq.desc())
        .limit(1)
        .lateral()
    )
    query = (
        select(Deployment.id)
        .select_from(Service)
        .join(Environment, true())
        .join(live, true())
        .join(Deployment, Deployment.id == live.c.id)
        .where(*choice.conditions())
    )
    if choice.service_id is not None:
        query = query.where(Service.id == choice.service_id)
    if choice.environment_id is not None:
        query = query.where(Environment.id == choice.environment_id)
    return query


def _one_of(ids: Collection[UUID]) -> ColumnElement[bool]:
    """Return the condition as one array, so that any number of ids is the same statement."""
    return Deployment.id == func.any(cast(sorted(ids), ARRAY(Uuid)))
