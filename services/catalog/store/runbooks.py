"""Runbooks, read with the names of their services, environments and authors."""

from uuid import UUID

from sqlalchemy import ColumnElement, Text, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import Runbook
from services.catalog.store.reading import Filters, Query, one, page
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import catalog as tables
from shared.db.models.identity import User

_BY_TITLE = sorted_by(func.lower(tables.Runbook.title), tables.Runbook.id)


def _query(content: ColumnElement[str]) -> Query:
    return (
        select(
            tables.Runbook.id,
            tables.Runbook.service_id,
            tables.Service.name.label("service"),
            tables.Runbook.environment_id,
            tables.Environment.name.label("environment"),
            tables.Runbook.title,
            content.label("content"),
            tables.Runbook.tags,
            tables.Runbook.created_by,
            User.username.label("author"),
            tables.Runbook.archived_at,
            tables.Runbook.row_version,
            tables.Runbook.created_at,
            tables.Runbook.updated_at,
        )
        .join(tables.Service, tables.Service.id == tables.Runbook.service_id)
        .join(User, User.id == tables.Runbook.created_by)
        .outerjoin(tables.Environment, tables.Environment.id == tables.Runbook.environment_id)
    )


_WHOLE = _query(tables.Runbook.__table__.c.content)
_WITHOUT_CONTENT = _query(literal("", Text))


async def find(tx: AsyncConnection, runbook_id: UUID) -> Runbook | None:
    """Return the runbook with this id."""
    return await one(tx, Runbook, _WHOLE.where(tables.Runbook.id == runbook_id))


async def listed(tx: AsyncConnection, filters: Filters, wanted: PageRequest) -> Page[Runbook]:
    """Return a page of the runbooks that pass all `filters`, by title and without content."""
    return await page(tx, Runbook, _WITHOUT_CONTENT.where(*filters), _BY_TITLE, wanted)
