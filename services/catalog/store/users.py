"""Users, read with the names of their teams; their password hashes only for logging in."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import Credentials, User
from services.catalog.store import reading
from services.catalog.store.reading import Filters, Listing, one, one_locked, value_of
from shared.db.filtering import ChoiceField, Fields, FlagField, MomentField, NamedField, TextField
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import identity as tables
from shared.db.models.catalog import Team
from shared.db.models.outbox import OutboxEvent
from shared.identity.actor import ActorKind, Role
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
    tables.User.password_change_required,
    tables.User.row_version,
    tables.User.created_at,
    tables.User.updated_at,
).outerjoin(Team, Team.id == tables.User.team_id)
_NAME = func.lower(tables.User.username)
_ROLES: Mapping[str, str] = {role.name: role.stored for role in Role}
_FIELDS = Fields(
    filters={
        "username": TextField(tables.User.username),
        "email": TextField(tables.User.email),
        "full_name": TextField(tables.User.full_name),
        "role": ChoiceField(tables.User.role, _ROLES),
        "kind": ChoiceField(tables.User.kind, {kind.name: kind.value for kind in ActorKind}),
        "active": FlagField(tables.User.active),
        "team": NamedField(tables.User.team_id, Team.name),
        "created_at": MomentField(tables.User.created_at),
        "updated_at": MomentField(tables.User.updated_at),
    },
    orders={
        "username": _NAME,
        "created_at": tables.User.created_at,
        "updated_at": tables.User.updated_at,
    },
    unique=tables.User.id,
    default=sorted_by(_NAME),
)
_CREDENTIALS = select(
    tables.User.id.label("user_id"),
    tables.User.username,
    tables.User.password_hash,
    and_(tables.User.active, tables.User.kind == ActorKind.PERSON).label("may_log_in"),
    tables.User.row_version,
)
_ADMINS = and_(
    tables.User.role == Role.ADMIN.stored, tables.User.active, tables.User.kind == ActorKind.PERSON
)


async def find(tx: AsyncConnection, reference: str) -> User | None:
    """Return the user with this id or, without regard to case, user name."""
    return await one(tx, User, _QUERY.where(_same(reference)))


async def find_each(tx: AsyncConnection, references: Sequence[str]) -> list[User | None]:
    """Return the user of each id or user name."""
    table = tables.User
    return await reading.each_named(tx, User, _QUERY, table, references, name="username")


async def find_locked(tx: AsyncConnection, reference: str) -> User | None:
    """Return the user like `find`, and keep everybody else from changing it."""
    return await one_locked(tx, User, _QUERY, tables.User, _same(reference), keeps_key=True)


async def find_shared(tx: AsyncConnection, reference: str) -> User | None:
    """Return the user like `find`, and keep it as it is until the transaction ends."""
    return await one_locked(tx, User, _QUERY, tables.User, _same(reference), shared=True)


async def find_locked_among_admins(tx: AsyncConnection, reference: str) -> tuple[User | None, bool]:
    """Return the user, locked with all active admins, and whether another one is among them.

    They are locked by id, so that two changes that each take an admin away wait for one another.
    """
    found = await find(tx, reference)
    if found is None:
        return None, False
    wanted = select(tables.User.id).where(or_(tables.User.id == found.id, _ADMINS))
    locked = wanted.order_by(tables.User.id).with_for_update(key_share=True)
    ids = set((await tx.execute(locked)).scalars())
    return await find(tx, str(found.id)), bool(ids - {found.id})


async def listed(
    tx: AsyncConnection, filters: Filters, wanted: Listing, at: PageRequest
) -> Page[User]:
    """Return a page of the users that pass all `filters`, by user name unless asked otherwise."""
    return await reading.listed(tx, User, _QUERY.where(*filters), _FIELDS, wanted, at)


async def first_admin(tx: AsyncConnection) -> User | None:
    """Return the active admin, a person, who is there the longest."""
    return await one(
        tx, User, _QUERY.where(_ADMINS).order_by(tables.User.created_at, tables.User.id).limit(1)
    )


async def credentials(tx: AsyncConnection, name: str) -> Credentials | None:
    """Return what logging in as `name` needs: a user name or, if no user has it, a mail address."""
    wanted = func.lower(name)
    by_name = wanted == _NAME
    query = (
        _CREDENTIALS.where(or_(by_name, func.lower(tables.User.email) == wanted))
        .order_by(by_name.desc())
        .limit(1)
    )
    return await one(tx, Credentials, query)


async def credentials_of(tx: AsyncConnection, user_id: UUID) -> Credentials:
    """Return the credentials of a user who is there."""
    return value_of(
        Credentials, (await tx.execute(_CREDENTIALS.where(tables.User.id == user_id))).one()
    )


async def credentials_locked(
    tx: AsyncConnection, user_id: UUID, *, to_change: bool
) -> Credentials | None:
    """Return the credentials of a user, who stays as it is until the transaction ends."""
    wanted = _CREDENTIALS.where(tables.User.id == user_id)
    query = wanted.with_for_update(key_share=to_change, read=not to_change)
    return await one(tx, Credentials, query)


async def acts_waiting(tx: AsyncConnection, user_id: UUID) -> bool:
    """Say whether an act of a user is still on its way to the audit trail."""
    waiting = select(OutboxEvent.id).where(
        OutboxEvent.sent_at.is_(None), OutboxEvent.event["user"].astext == str(user_id)
    )
    return bool(await tx.scalar(select(exists(waiting))))


async def replace_hash(tx: AsyncConnection, user_id: UUID, old: str, new: str) -> None:
    """Store the same password under another cost, unless the password has changed meanwhile."""
    await tx.execute(
        update(tables.User)
        .where(tables.User.id == user_id, tables.User.password_hash == old)
        .values(password_hash=new)
    )


def _same(reference: str) -> ColumnElement[bool]:
    user_id = parse_id(reference)
    return tables.User.id == user_id if user_id is not None else func.lower(reference) == _NAME
