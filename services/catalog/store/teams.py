"""Teams, read."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import Team
from services.catalog.store.reading import Order, one, page
from shared.db.keyset import Page, PageRequest
from shared.db.models import catalog as tables
from shared.ids import parse_id

_QUERY = select(
    tables.Team.id,
    tables.Team.name,
    tables.Team.description,
    tables.Team.row_version,
    tables.Team.created_at,
    tables.Team.updated_at,
)
_BY_NAME = Order((func.lower(tables.Team.name), tables.Team.id))


async def find(tx: AsyncConnection, reference: str) -> Team | None:
    """Return the team with this id or, without regard to case, name."""
    team_id = parse_id(reference)
    same = tables.Team.id == team_id
    if team_id is None:
        same = func.lower(tables.Team.name) == func.lower(reference)
    return await one(tx, Team, _QUERY.where(same))


async def listed(tx: AsyncConnection, wanted: PageRequest) -> Page[Team]:
    """Return a page of all teams by name."""
    return await page(tx, Team, _QUERY, _BY_NAME, wanted)
