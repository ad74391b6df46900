"""Environments."""

from dataclasses import dataclass

from services.catalog.operations import creating, resolving
from services.catalog.operations.creating import first_version
from services.catalog.rules.resources import Environment, EnvironmentType
from services.catalog.store import environments
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.db.models import catalog as tables
from shared.errors import ResourceExists
from shared.outbox.change import Change


@dataclass(frozen=True, slots=True)
class NewEnvironment:
    """An environment to be made."""

    name: str
    environment_type: EnvironmentType
    promotion_order: int
    description: str


async def create(change: Change, new: NewEnvironment) -> Environment:
    """Make an environment under the default policy of its type; raises ResourceExists."""
    environment = Environment(
        **first_version(change),
        name=new.name,
        description=new.description,
        environment_type=new.environment_type,
        promotion_order=new.promotion_order,
        policy_version=0,
    )
    taken = ResourceExists(resource_type="environment", resource=new.name)
    await creating.create(change, "environment", environment, {"uq_environments_name": taken})
    return environment


async def get(db: Database, reference: str) -> Environment:
    """Return an environment by name or id."""
    async with db.snapshot() as tx:
        return await resolving.environment(tx, reference)


async def page(
    db: Database, environment_type: EnvironmentType | None, at: PageRequest
) -> Page[Environment]:
    """Return a page of the environments of a type, or of all."""
    filters = []
    if environment_type is not None:
        filters.append(tables.Environment.environment_type == environment_type)
    async with db.snapshot() as tx:
        return await environments.listed(tx, filters, at)
