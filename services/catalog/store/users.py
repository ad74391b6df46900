"""Users, read with the names of their teams; their password hashes only for logging in."""

from uuid import UUID

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import Credentials, User
from services.catalog.store.reading import Filters, one, page
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import identity as tables
from shared.db.models.catalog import Team
from shared.identity.actor import ActorKind
from shared.ids import parse_id

_QUERY = select(
    tables.User.id,
    tables.User.username,
    tables.User.email,
    tables.User.full_name,
    tables.User.role,
    tables.User.active,
    tables.User.kind,
    tables.User.team_id,
    Team.name.label("team"),
    tables.User.row_version,
    tables.User.created_at,
    tables.User.updated_at,
).outerjoin(Team, Team.id == tables.User.team_id)
_BY_NAME = sorted_by(func.lower(tables.User.username), tables.User.id)


async def find(tx: AsyncConnection, reference: str) -> User | None:
    """Return the user with this id or, without regard to case, user name."""
    user_id = parse_id(reference)
    same = tables.User.id == user_id
    if user_id is None:
        same = func.lower(tables.User.username) == func.lower(reference)
    return await one(tx, User, _QUERY.where(same))


async def listed(tx: AsyncConnection, filters: Filters, wanted: PageRequest) -> Page[User]:
    """Return a page of the users that pass all `filters`, by user name."""
    return await page(tx, User, _QUERY.where(*filters), _BY_NAME, wanted)


async def first_admin(tx: AsyncConnection) -> User | None:
    """Return the active admin, a person, who is there the longest."""
    query = _QUERY.where(
        tables.User.role == "admin", tables.User.active, tables.User.kind == ActorKind.PERSON
    )
    return await one(tx, User, query.order_by(tables.User.created_at, tables.User.id).limit(1))


async def credentials(tx: AsyncConnection, name: str) -> Credentials | None:
    """Return what logging in as `name` needs: a user name or, if no user has it, a mail address."""
    wanted = func.lower(name)
    by_name = func.lower(tables.User.username) == wanted
    query = (
        select(
            tables.User.id.label("user_id"),
            tables.User.username,
            tables.User.password_hash,
            and_(tables.User.active, tables.User.kind == ActorKind.PERSON).label("may_log_in"),
        )
        .where(or_(by_name, func.lower(tables.User.email) == wanted))
        .order_by(by_name.desc())
        .limit(1)
    )
    return await one(tx, Credentials, query)


async def replace_hash(tx: AsyncConnection, user_id: UUID, old: str, new: str) -> None:
    """Store the same password under another cost, unless the password has changed meanwhile."""
    await tx.execute(
        update(tables.User)
        .where(tables.User.id == user_id, tables.User.password_hash == old)
        .values(password_hash=new)
    )
