"""Services."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.catalog.operations import changing, creating, resolving
from services.catalog.operations.changing import Update
from services.catalog.operations.creating import first_version
from services.catalog.rules.dependencies import circle
from services.catalog.rules.resources import Dependency, Service, ServiceLifecycle, ServiceTier
from services.catalog.store import services
from services.catalog.store.reading import Listing
from services.catalog.store.services import ServiceFilter
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.domain_error import FieldViolation
from shared.errors import DependencyCircle, ResourceExists, ResourceReferenced, ValidationFailed
from shared.identity.actor import Actor
from shared.outbox.change import Change

KIND = "service"
_USED = {
    "fk_releases_service_id": "a release",
    "fk_runbooks_service_id": "a runbook",
    "fk_locks_service_id": "a lock",
    "fk_freeze_window_subjects_service_id": "a freeze window",
    "fk_service_dependencies_needs_id": "another service, which needs it",
}


@dataclass(frozen=True, slots=True)
class Need:
    """What a service is to need of another one, which `service` names."""

    service: str
    minimum_version: str


@dataclass(frozen=True, slots=True)
class NewService:
    """A service to be made; without an owner, the person behind the call owns it."""

    name: str
    team: str
    owner: str
    description: str
    repository: str
    tier: ServiceTier
    lifecycle: ServiceLifecycle
    labels: Mapping[str, str]
    links: tuple[Mapping[str, str], ...]
    needs: tuple[Need, ...]


@dataclass(frozen=True, slots=True)
class ServiceChoice:
    """Which services are asked for, by names or ids; empty or None asks for all."""

    team: str = ""
    owner: str = ""
    tier: ServiceTier | None = None
    lifecycle: ServiceLifecycle | None = None


async def create(change: Change, new: NewService) -> Service:
    """Make a service.

    Raises ResourceExists when its name is taken, ResourceNotFound for what it refers to,
    ResourceArchived for a team or a needed service, and ReferenceInactive or ValidationFailed for
    an owner who cannot be one.
    """
    team = await resolving.team_to_use(change.tx, new.team)
    owner_reference = new.owner or _person_behind(change.actor)
    owner = await resolving.active_person(change.tx, owner_reference, "owner")
    service = Service(
        **first_version(change),
        name=new.name,
        description=new.description,
        team_id=team.id,
        team=team.name,
        owner_id=owner.id,
        owner=owner.username,
        repository=new.repository,
        tier=new.tier.stored,
        lifecycle=new.lifecycle,
        labels=new.labels,
        links=new.links,
        dependencies=await _needed(change, new.needs),
    )
    await creating.create(change, KIND, service, _taken(new.name))
    await services.replace_dependencies(change.tx, service.id, service.dependencies)
    return service


async def update(change: Change, wanted: Update) -> Service:
    """Change a service; `team`, `owner` and `needs` are references.

    Raises what `create` raises, EtagMismatch, ResourceArchived and DependencyCircle.
    """
    values = dict(wanted.values)
    needs: tuple[Need, ...] | None = values.pop("needs", None)
    if needs is not None:  # before any row is locked, as everybody does who changes needs
        await services.lock_dependencies(change.tx)
    if "team" in values:
        team = await resolving.team_to_use(change.tx, values["team"])
        values |= {"team_id": team.id, "team": team.name}
    if "owner" in values:
        owner = await resolving.active_person(change.tx, values["owner"], "owner")
        values |= {"owner_id": owner.id, "owner": owner.username}
    service = await _to_change(change, wanted.reference, wanted.etag)
    changing.check_in_use(KIND, service, service.name)
    if needs is not None:
        values["dependencies"] = await _needed(change, needs, of=service)
    changed = replace(service, **values)
    if changed.dependencies != service.dependencies:
        await services.replace_dependencies(change.tx, service.id, changed.dependencies)
        await _refuse_circle(change, service)
    return await changing.store(
        change, KIND, "update", service, changed, taken=_taken(changed.name)
    )


async def archive(change: Change, reference: str, etag: str) -> Service:
    """Archive a service.

    Raises ResourceNotFound, EtagMismatch, and ResourceReferenced while a deployment of it is not
    finished.
    """
    service = await _to_change(change, reference, etag)
    if await services.has_unfinished(change.tx, service):
        what = "a deployment that is not finished"
        raise ResourceReferenced(resource_type=KIND, resource=service.name, used_by=what)
    return await changing.archive(change, KIND, service)


async def unarchive(change: Change, reference: str, etag: str) -> Service:
    """Take a service out of the archive.

    Raises ResourceNotFound, EtagMismatch, and ResourceArchived while its team is archived.
    """
    # Teams are locked before services. Nobody gives an archived service another team, so the team
    # that is read here is the one that it has when it is locked.
    team_id = str((await resolving.service(change.tx, reference)).team_id)
    team = await resolving.team_locked(change.tx, team_id)
    service = await _to_change(change, reference, etag)
    if service.archived_at is not None:
        changing.check_in_use("team", team, team.name)
    return await changing.unarchive(change, KIND, service)


async def delete(change: Change, reference: str, etag: str) -> None:
    """Delete a service; raises ResourceNotFound, EtagMismatch, ResourceReferenced."""
    service = await _to_change(change, reference, etag)
    await changing.delete(change, KIND, service, changing.referenced(KIND, service.name, _USED))


async def get(db: Database, reference: str) -> Service:
    """Return a service by name or id."""
    async with db.snapshot() as tx:
        return await resolving.service(tx, reference)


async def each(db: Database, references: Sequence[str]) -> list[Service]:
    """Return services by names or ids, in that order; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        return await resolving.each(KIND, services.find_each, tx, references)


async def page(
    db: Database, choice: ServiceChoice, wanted: Listing, at: PageRequest
) -> Page[Service]:
    """Return a page of the services asked for.

    Raises ResourceNotFound for team or owner, and ExpressionInvalid.
    """
    async with db.snapshot() as tx:
        chosen = ServiceFilter(
            team_id=(await resolving.team(tx, choice.team)).id if choice.team else None,
            owner_id=(await resolving.user(tx, choice.owner)).id if choice.owner else None,
            tier=choice.tier,
            lifecycle=choice.lifecycle,
        )
        return await services.listed(tx, chosen, wanted, at)


async def _needed(
    change: Change, needs: Sequence[Need], of: Service | None = None
) -> tuple[Dependency, ...]:
    """Return what is needed, by name; raises ValidationFailed for itself and for one twice."""
    found: dict[str, Dependency] = {}
    for number, need in enumerate(needs):
        service = await resolving.service_to_use(change.tx, need.service)
        if of is not None and service.id == of.id:
            raise _wrong(number, "a service cannot need itself")
        if service.name in found:
            raise _wrong(number, f"{service.name} is there twice")
        found[service.name] = Dependency(
            service_id=service.id, service=service.name, minimum_version=need.minimum_version
        )
    return tuple(found[name] for name in sorted(found))


async def _refuse_circle(change: Change, service: Service) -> None:
    way = circle(await services.all_needs(change.tx), service.id)
    if way:
        raise DependencyCircle(circle=" > ".join(await services.names(change.tx, way)))


async def _to_change(change: Change, reference: str, etag: str) -> Service:
    service = await resolving.service_to_change(change.tx, reference)
    changing.check_etag(KIND, service, etag)
    return service


def _wrong(number: int, why: str) -> ValidationFailed:
    field = f"dependencies[{number}].service"
    return ValidationFailed(count=1, first=f"{field}: {why}", fields=(FieldViolation(field, why),))


def _taken(name: str) -> dict[str, ResourceExists]:
    return {"uq_services_name": ResourceExists(resource_type=KIND, resource=name)}


def _person_behind(actor: Actor) -> str:
    """Return whom a program acts for, or else who answers for it; a person is themselves."""
    return str(actor.on_behalf_of or actor.owner_id or actor.user_id)
