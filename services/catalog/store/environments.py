"""Environments, read."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import Environment
from services.catalog.store.reading import Filters, one, page
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import catalog as tables
from shared.ids import parse_id

_QUERY = select(
    tables.Environment.id,
    tables.Environment.name,
    tables.Environment.description,
    tables.Environment.environment_type,
    tables.Environment.promotion_order,
    tables.Environment.policy_version,
    tables.Environment.row_version,
    tables.Environment.created_at,
    tables.Environment.updated_at,
)
_IN_PROMOTION_ORDER = sorted_by(tables.Environment.promotion_order, tables.Environment.id)


async def find(tx: AsyncConnection, reference: str) -> Environment | None:
    """Return the environment with this id or, without regard to case, name."""
    environment_id = parse_id(reference)
    same = tables.Environment.id == environment_id
    if environment_id is None:
        same = func.lower(tables.Environment.name) == func.lower(reference)
    return await one(tx, Environment, _QUERY.where(same))


async def listed(tx: AsyncConnection, filters: Filters, wanted: PageRequest) -> Page[Environment]:
    """Return a page of the environments that pass all `filters`, in promotion order."""
    return await page(tx, Environment, _QUERY.where(*filters), _IN_PROMOTION_ORDER, wanted)
