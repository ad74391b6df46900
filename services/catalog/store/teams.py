"""Teams, read and locked."""

from collections.abc import Sequence

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import Team
from services.catalog.store import reading
from services.catalog.store.reading import Listing, Query, one
from shared.db.filtering import Fields, MomentField, TextField
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import catalog as tables
from shared.db.models.identity import User
from shared.ids import parse_id

_team = tables.Team
_QUERY = select(
    _team.id,
    _team.name,
    _team.description,
    _team.archived_at,
    _team.row_version,
    _team.created_at,
    _team.updated_at,
)
_NAME = func.lower(_team.name)
_FIELDS = Fields(
    filters={
        "name": TextField(_team.name),
        "description": TextField(_team.description),
        "created_at": MomentField(_team.created_at),
        "updated_at": MomentField(_team.updated_at),
    },
    orders={"name": _NAME, "created_at": _team.created_at, "updated_at": _team.updated_at},
    unique=_team.id,
    default=sorted_by(_NAME),
)


async def find(tx: AsyncConnection, reference: str) -> Team | None:
    """Return the team with this id or, without regard to case, name."""
    return await one(tx, Team, _named(reference))


async def find_each(tx: AsyncConnection, references: Sequence[str]) -> list[Team | None]:
    """Return the team of each id or name."""
    return await reading.each_named(tx, Team, _QUERY, _team, references)


async def find_locked(tx: AsyncConnection, reference: str) -> Team | None:
    """Return the team like `find`, and keep everybody else from changing it."""
    return await one(tx, Team, _named(reference).with_for_update())


async def find_shared(tx: AsyncConnection, reference: str) -> Team | None:
    """Return the team like `find`, and keep it as it is until the transaction ends."""
    return await one(tx, Team, _named(reference).with_for_update(read=True))


async def listed(tx: AsyncConnection, wanted: Listing, at: PageRequest) -> Page[Team]:
    """Return a page of the teams asked for, by name unless asked otherwise."""
    query = _QUERY if wanted.show_archived else _QUERY.where(_team.archived_at.is_(None))
    return await reading.listed(tx, Team, query, _FIELDS, wanted, at)


async def used_by(tx: AsyncConnection, team: Team) -> str | None:
    """Return what keeps a team from being archived, None when nothing does."""
    service = tables.Service
    services = select(service.id).where(service.team_id == team.id, service.archived_at.is_(None))
    people = select(User.id).where(User.team_id == team.id, User.active)
    for what, who in (("a service", services), ("an active person", people)):
        if await tx.scalar(select(exists(who))):
            return what
    return None


def _named(reference: str) -> Query:
    team_id = parse_id(reference)
    same = _team.id == team_id if team_id is not None else func.lower(reference) == _NAME
    return _QUERY.where(same)
