"""From what callers write to what is meant: names, in any case, or ids."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.models.catalog import Environment, Release, Service, Team
from shared.db.models.identity import User
from shared.errors import ResourceNotFound
from shared.ids import parse_id


@dataclass(frozen=True, slots=True)
class Named:
    """A thing found by its name or id."""

    id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class NamedRelease:
    """A release found by `service@version` or id."""

    id: UUID
    service_id: UUID
    service: str
    version: str


@dataclass(frozen=True, slots=True)
class NamedPerson:
    """A user found by name or id, with what decides whether they may approve."""

    id: UUID
    username: str
    role: str
    active: bool
    kind: str


@dataclass(frozen=True, slots=True)
class NamedThing:
    """A service, a team or an environment found by its name or id."""

    id: UUID
    name: str
    archived: bool


ThingKind = Literal["service", "team", "environment"]
_THINGS: Final[Mapping[ThingKind, type[Service | Team | Environment]]] = {
    "service": Service,
    "team": Team,
    "environment": Environment,
}


async def release(tx: AsyncConnection, reference: str) -> NamedRelease:
    """Find a release; a version is written exactly as it was created."""
    statement = select(Release.id, Service.id, Service.name, Release.version).join(
        Service, Service.id == Release.service_id
    )
    release_id = parse_id(reference)
    service, at, version = reference.partition("@")
    if release_id is not None:
        statement = statement.where(Release.id == release_id)
    elif at:
        statement = statement.where(
            func.lower(Service.name) == func.lower(service), Release.version == version
        )
    else:
        raise ResourceNotFound(resource_type="release", resource=reference)
    row = (await tx.execute(statement)).one_or_none()
    if row is None:
        raise ResourceNotFound(resource_type="release", resource=reference)
    return NamedRelease(*row)


async def environment(tx: AsyncConnection, reference: str) -> Named:
    """Find an environment."""
    matches = _matches(Environment.id, Environment.name, reference)
    statement = select(Environment.id, Environment.name).where(matches)
    return await _one(tx, statement, "environment", reference)


async def service(tx: AsyncConnection, reference: str) -> Named:
    """Find a service."""
    matches = _matches(Service.id, Service.name, reference)
    return await _one(tx, select(Service.id, Service.name).where(matches), "service", reference)


async def team(tx: AsyncConnection, reference: str) -> Named:
    """Find a team."""
    matches = _matches(Team.id, Team.name, reference)
    return await _one(tx, select(Team.id, Team.name).where(matches), "team", reference)


async def user(tx: AsyncConnection, reference: str) -> Named:
    """Find a user."""
    matches = _matches(User.id, User.username, reference)
    return await _one(tx, select(User.id, User.username).where(matches), "user", reference)


async def people(tx: AsyncConnection, references: Collection[str]) -> list[NamedPerson]:
    """Find all these users, in the order given and each once; raises for the first unknown one."""
    if not references:
        return []
    ids = [user_id for reference in references if (user_id := parse_id(reference)) is not None]
    names = [reference.lower() for reference in references]
    statement = select(User.id, User.username, User.role, User.active, User.kind).where(
        or_(User.id.in_(ids), func.lower(User.username).in_(names))
    )
    found: dict[str, NamedPerson] = {}
    for row in (await tx.execute(statement)).all():
        person = NamedPerson(*row)
        found |= {str(person.id): person, person.username.lower(): person}
    for reference in references:
        if reference.lower() not in found:
            raise ResourceNotFound(resource_type="user", resource=reference)
    return list({found[name].id: found[name] for name in names}.values())


async def each(
    tx: AsyncConnection, kind: ThingKind, references: Collection[str]
) -> list[NamedThing]:
    """Find all these things of a kind, each once; raises for the first unknown one."""
    if not references:
        return []
    table = _THINGS[kind]
    wanted = {reference: parse_id(reference) or reference.lower() for reference in references}
    ids = [key for key in wanted.values() if isinstance(key, UUID)]
    names = [key for key in wanted.values() if isinstance(key, str)]
    statement = select(table.id, table.name, table.archived_at.is_not(None)).where(
        or_(table.id.in_(ids), func.lower(table.name).in_(names))
    )
    found: dict[UUID | str, NamedThing] = {}
    for row in (await tx.execute(statement)).all():
        thing = NamedThing(*row)
        found |= {thing.id: thing, thing.name.lower(): thing}
    for reference, key in wanted.items():
        if key not in found:
            raise ResourceNotFound(resource_type=kind, resource=reference)
    return list({found[key].id: found[key] for key in wanted.values()}.values())


def _matches(id_column: object, name_column: object, reference: str) -> ColumnElement[bool]:
    wanted = parse_id(reference)
    if wanted is not None:
        return id_column == wanted  # type: ignore[return-value]
    return func.lower(name_column) == func.lower(reference)


async def _one(
    tx: AsyncConnection, statement: Select[UUID, str], resource_type: str, reference: str
) -> Named:
    row = (await tx.execute(statement)).one_or_none()
    if row is None:
        raise ResourceNotFound(resource_type=resource_type, resource=reference)
    return Named(*row)
