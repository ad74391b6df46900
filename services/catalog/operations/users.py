"""Users, read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.catalog.operations import resolving
from services.catalog.rules.resources import User
from services.catalog.store import users
from services.catalog.store.reading import Listing
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
    listing: Listing = field(default_factory=Listing)


async def get(db: Database, reference: str) -> User:
    """Return a user by user name or id."""
    async with db.snapshot() as tx:
        return await resolving.user(tx, reference)


async def each(db: Database, references: Sequence[str]) -> list[User]:
    """Return users by user names or ids, in that order; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        return await resolving.each("user", users.find_each, tx, references)


async def page(db: Database, wanted: UserFilter, at: PageRequest) -> Page[User]:
    """Return a page of the users asked for.

    Raises ResourceNotFound for the team, and ExpressionInvalid.
    """
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
        return await users.listed(tx, filters, wanted.listing, at)
