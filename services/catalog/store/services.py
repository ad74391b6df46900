"""Services, read with the names of their teams and owners and with what they need."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from sqlalchemy import ColumnElement, delete, exists, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import Dependency, Service, ServiceLifecycle, ServiceTier
from services.catalog.store import reading
from services.catalog.store.deployments import unfinished
from services.catalog.store.reading import Listing, one, one_locked
from shared.db.filtering import ChoiceField, Fields, LabelsField, MomentField, NamedField, TextField
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import catalog as tables
from shared.db.models.deployment import Deployment
from shared.db.models.identity import User
from shared.ids import parse_id

# Any number that nothing else locks: whoever changes what services need waits for the others, so
# that no two changes close a circle together.
DEPENDENCIES_LOCK = 0x6E_6565_6473

_service = tables.Service
_needs = tables.ServiceDependency
_QUERY = (
    select(
        _service.id,
        _service.name,
        _service.description,
        _service.team_id,
        tables.Team.name.label("team"),
        _service.owner_id,
        User.username.label("owner"),
        _service.repository,
        _service.tier,
        _service.lifecycle,
        _service.labels,
        _service.links,
        _service.archived_at,
        _service.row_version,
        _service.created_at,
        _service.updated_at,
    )
    .join(tables.Team, tables.Team.id == _service.team_id)
    .join(User, User.id == _service.owner_id)
)
_NAME = func.lower(_service.name)
_FIELDS = Fields(
    filters={
        "name": TextField(_service.name),
        "description": TextField(_service.description),
        "repository": TextField(_service.repository),
        "team": NamedField(_service.team_id, tables.Team.name),
        "owner": NamedField(_service.owner_id, User.username),
        "tier": ChoiceField(
            _service.tier, {one.name: one.stored for one in ServiceTier}, ordered=True
        ),
        "lifecycle": ChoiceField(
            _service.lifecycle, {one.name: one.value for one in ServiceLifecycle}
        ),
        "labels": LabelsField(_service.labels),
        "created_at": MomentField(_service.created_at),
        "updated_at": MomentField(_service.updated_at),
    },
    orders={
        "name": _NAME,
        "tier": _service.tier,
        "created_at": _service.created_at,
        "updated_at": _service.updated_at,
    },
    unique=_service.id,
    default=sorted_by(_NAME),
)


@dataclass(frozen=True, slots=True)
class ServiceFilter:
    """Which services are asked for by id or choice; None asks for all."""

    team_id: UUID | None = None
    owner_id: UUID | None = None
    tier: ServiceTier | None = None
    lifecycle: ServiceLifecycle | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions that are asked for."""
        asked = (
            (_service.team_id, self.team_id),
            (_service.owner_id, self.owner_id),
            (_service.tier, self.tier and self.tier.stored),
            (_service.lifecycle, self.lifecycle),
        )
        return [column == value for column, value in asked if value is not None]


async def find(tx: AsyncConnection, reference: str) -> Service | None:
    """Return the service with this id or, without regard to case, name."""
    return await _whole(tx, await one(tx, Service, _QUERY.where(_same(reference))))


async def find_locked(tx: AsyncConnection, reference: str) -> Service | None:
    """Return the service like `find`, and keep everybody else from changing it."""
    held = await one_locked(tx, Service, _QUERY, _service, _same(reference))
    return await _whole(tx, held)


async def find_shared(tx: AsyncConnection, reference: str) -> Service | None:
    """Return the service like `find`, and keep it as it is until the transaction ends."""
    held = await one_locked(tx, Service, _QUERY, _service, _same(reference), shared=True)
    return await _whole(tx, held)


async def find_each(tx: AsyncConnection, references: Sequence[str]) -> list[Service | None]:
    """Return the service of each id or name."""
    found = await reading.each_named(tx, Service, _QUERY, _service, references)
    needs = await _needs_of(tx, [service.id for service in found if service is not None])
    return [
        None if service is None else replace(service, dependencies=needs.get(service.id, ()))
        for service in found
    ]


async def listed(
    tx: AsyncConnection, chosen: ServiceFilter, wanted: Listing, at: PageRequest
) -> Page[Service]:
    """Return a page of the services asked for, by name unless asked otherwise."""
    query = _QUERY.where(*chosen.conditions())
    if not wanted.show_archived:
        query = query.where(_service.archived_at.is_(None))
    if wanted.query:
        query = query.where(_service.words.op("@@")(reading.searched(wanted.query)))
    page = await reading.listed(tx, Service, query, _FIELDS, wanted, at)
    needs = await _needs_of(tx, [service.id for service in page.entries])
    return page.map(lambda service: replace(service, dependencies=needs.get(service.id, ())))


async def has_unfinished(tx: AsyncConnection, service: Service) -> bool:
    """Say whether a deployment of a service is not finished."""
    open_ones = select(Deployment.id).where(Deployment.service_id == service.id, unfinished())
    return bool(await tx.scalar(select(exists(open_ones))))


async def lock_dependencies(tx: AsyncConnection) -> None:
    """Wait until nobody else changes what services need; held to the end of the transaction."""
    await tx.execute(select(func.pg_advisory_xact_lock(DEPENDENCIES_LOCK)))


async def replace_dependencies(
    tx: AsyncConnection, service_id: UUID, dependencies: Sequence[Dependency]
) -> None:
    """Store what a service needs, instead of what it needed before."""
    await tx.execute(delete(_needs).where(_needs.service_id == service_id))
    rows = [
        {
            "service_id": service_id,
            "needs_id": needed.service_id,
            "minimum_version": needed.minimum_version,
        }
        for needed in dependencies
    ]
    if rows:
        await tx.execute(insert(_needs), rows)


async def all_needs(tx: AsyncConnection) -> dict[UUID, list[UUID]]:
    """Return what every service needs, by ids."""
    needs: dict[UUID, list[UUID]] = {}
    for service_id, needs_id in await tx.execute(select(_needs.service_id, _needs.needs_id)):
        needs.setdefault(service_id, []).append(needs_id)
    return needs


async def names(tx: AsyncConnection, ids: Sequence[UUID]) -> list[str]:
    """Return the names of services, in the order of their ids."""
    rows = await tx.execute(select(_service.id, _service.name).where(_service.id.in_(ids)))
    named = {row.id: row.name for row in rows}
    return [named[one_id] for one_id in ids]


async def _whole(tx: AsyncConnection, service: Service | None) -> Service | None:
    if service is None:
        return None
    needs = await _needs_of(tx, [service.id])
    return replace(service, dependencies=needs.get(service.id, ()))


async def _needs_of(tx: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, tuple[Dependency, ...]]:
    """Return what services need, by the names of what they need."""
    if not ids:
        return {}
    rows = await tx.execute(
        select(_needs.service_id, _needs.needs_id, _service.name, _needs.minimum_version)
        .join(_service, _service.id == _needs.needs_id)
        .where(_needs.service_id.in_(ids))
    )
    found: dict[UUID, tuple[Dependency, ...]] = {}
    # Sorted here and not by the database, whose collation may be any: equal needs compare equal.
    for row in sorted(rows, key=lambda row: row.name):
        needed = Dependency(
            service_id=row.needs_id, service=row.name, minimum_version=row.minimum_version
        )
        found[row.service_id] = (*found.get(row.service_id, ()), needed)
    return found


def _same(reference: str) -> ColumnElement[bool]:
    service_id = parse_id(reference)
    return _service.id == service_id if service_id is not None else func.lower(reference) == _NAME
