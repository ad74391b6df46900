"""Services, read with the names of their teams and owners."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import Service
from services.catalog.store.reading import Filters, one, page
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import catalog as tables
from shared.db.models.identity import User
from shared.ids import parse_id

_QUERY = (
    select(
        tables.Service.id,
        tables.Service.name,
        tables.Service.description,
        tables.Service.team_id,
        tables.Team.name.label("team"),
        tables.Service.owner_id,
        User.username.label("owner"),
        tables.Service.repository,
        tables.Service.tier,
        tables.Service.lifecycle,
        tables.Service.row_version,
        tables.Service.created_at,
        tables.Service.updated_at,
    )
    .join(tables.Team, tables.Team.id == tables.Service.team_id)
    .join(User, User.id == tables.Service.owner_id)
)
_BY_NAME = sorted_by(func.lower(tables.Service.name), tables.Service.id)


async def find(tx: AsyncConnection, reference: str) -> Service | None:
    """Return the service with this id or, without regard to case, name."""
    service_id = parse_id(reference)
    same = tables.Service.id == service_id
    if service_id is None:
        same = func.lower(tables.Service.name) == func.lower(reference)
    return await one(tx, Service, _QUERY.where(same))


async def listed(tx: AsyncConnection, filters: Filters, wanted: PageRequest) -> Page[Service]:
    """Return a page of the services that pass all `filters`, by name."""
    return await page(tx, Service, _QUERY.where(*filters), _BY_NAME, wanted)
