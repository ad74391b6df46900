"""Services."""

from dataclasses import dataclass

from services.catalog.operations import creating, resolving
from services.catalog.operations.creating import first_version
from services.catalog.rules.resources import Service, ServiceLifecycle, ServiceTier
from services.catalog.store import services
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.db.models import catalog as tables
from shared.errors import ResourceExists
from shared.identity.actor import Actor
from shared.outbox.change import Change


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


@dataclass(frozen=True, slots=True)
class ServiceFilter:
    """Which services are asked for; empty or None asks for all."""

    team: str = ""
    owner: str = ""
    tier: ServiceTier | None = None
    lifecycle: ServiceLifecycle | None = None


async def create(change: Change, new: NewService) -> Service:
    """Make a service.

    Raises ResourceExists when its name is taken, ResourceNotFound for the team or owner, and
    ReferenceInactive or ValidationFailed for an owner who cannot be one.
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
    )
    taken = ResourceExists(resource_type="service", resource=new.name)
    await creating.create(change, "service", service, {"uq_services_name": taken})
    return service


async def get(db: Database, reference: str) -> Service:
    """Return a service by name or id."""
    async with db.snapshot() as tx:
        return await resolving.service(tx, reference)


async def page(db: Database, wanted: ServiceFilter, at: PageRequest) -> Page[Service]:
    """Return a page of the services asked for; raises ResourceNotFound for team or owner."""
    filters = []
    async with db.snapshot() as tx:
        if wanted.team:
            filters.append(tables.Service.team_id == (await resolving.team(tx, wanted.team)).id)
        if wanted.owner:
            filters.append(tables.Service.owner_id == (await resolving.user(tx, wanted.owner)).id)
        if wanted.tier is not None:
            filters.append(tables.Service.tier == wanted.tier.stored)
        if wanted.lifecycle is not None:
            filters.append(tables.Service.lifecycle == wanted.lifecycle)
        return await services.listed(tx, filters, at)


def _person_behind(actor: Actor) -> str:
    """Return whom a program acts for, or else who answers for it; a person is themselves."""
    return str(actor.on_behalf_of or actor.owner_id or actor.user_id)
