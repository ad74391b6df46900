"""Users, read."""

from dataclasses import dataclass

from services.catalog.operations import resolving
from services.catalog.rules.resources import User
from services.catalog.store import users
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.db.models import identity as tables
from shared.identity.actor import ActorKind, Role


@dataclass(frozen=True, slots=True)
class UserFilter:
    """Which users are asked for; empty or None asks for all."""

    team: str = ""
    role: Role | None = None
    kind: ActorKind | None = None
    active: bool | None = None


async def get(db: Database, reference: str) -> User:
    """Return a user by user name or id."""
    async with db.snapshot() as tx:
        return await resolving.user(tx, reference)


async def page(db: Database, wanted: UserFilter, at: PageRequest) -> Page[User]:
    """Return a page of the users asked for; raises ResourceNotFound for the team."""
    filters = []
    async with db.snapshot() as tx:
        if wanted.team:
            filters.append(tables.User.team_id == (await resolving.team(tx, wanted.team)).id)
        if wanted.role is not None:
            filters.append(tables.User.role == wanted.role.stored)
        if wanted.kind is not None:
            filters.append(tables.User.kind == wanted.kind)
        if wanted.active is not None:
            filters.append(tables.User.active.is_(wanted.active))
        return await users.listed(tx, filters, at)
