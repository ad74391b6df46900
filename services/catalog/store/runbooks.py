"""Runbooks and their versions, read with the names of their services, environments and authors."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import ColumnElement, Text, delete, exists, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.rules.resources import Runbook, RunbookVersion
from services.catalog.store import reading
from services.catalog.store.reading import Listing, Query, one, one_locked
from shared.db.filtering import Fields, MomentField, NamedField, TagsField, TextField
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import catalog as tables
from shared.db.models.identity import User
from shared.ids import new_id

DRAFT = 0
LATEST = 2**31 - 1

_runbook = tables.Runbook
_version = tables.RunbookVersion
_HAS_DRAFT = exists().where(
    _version.runbook_id == _runbook.id, _version.version == DRAFT, _runbook.version != DRAFT
)


def _query(content: ColumnElement[str]) -> Query:
    return (
        select(
            _runbook.id,
            _runbook.service_id,
            tables.Service.name.label("service"),
            _runbook.environment_id,
            tables.Environment.name.label("environment"),
            _runbook.title,
            content.label("content"),
            _runbook.tags,
            _runbook.created_by,
            User.username.label("author"),
            _runbook.version,
            _runbook.published_at,
            _HAS_DRAFT.label("has_draft"),
            _runbook.archived_at,
            _runbook.row_version,
            _runbook.created_at,
            _runbook.updated_at,
        )
        .join(tables.Service, tables.Service.id == _runbook.service_id)
        .join(User, User.id == _runbook.created_by)
        .outerjoin(tables.Environment, tables.Environment.id == _runbook.environment_id)
    )


_WHOLE = _query(_runbook.__table__.c.content)
_WITHOUT_CONTENT = _query(literal("", Text))
_VERSIONS = (
    select(
        _version.id,
        _version.runbook_id,
        _version.version,
        _version.environment_id,
        tables.Environment.name.label("environment"),
        _version.title,
        _version.content,
        _version.tags,
        _version.created_by,
        User.username.label("author"),
        _version.created_at,
        _version.published_at,
    )
    .join(User, User.id == _version.created_by)
    .outerjoin(tables.Environment, tables.Environment.id == _version.environment_id)
)
_TITLE = func.lower(_runbook.title)
_FIELDS = Fields(
    filters={
        "title": TextField(_runbook.title),
        "service": NamedField(_runbook.service_id, tables.Service.name),
        "environment": NamedField(_runbook.environment_id, tables.Environment.name),
        "tags": TagsField(_runbook.tags),
        "created_by": NamedField(_runbook.created_by, User.username),
        "created_at": MomentField(_runbook.created_at),
        "updated_at": MomentField(_runbook.updated_at),
    },
    orders={
        "title": _TITLE,
        "created_at": _runbook.created_at,
        "updated_at": _runbook.updated_at,
    },
    unique=_runbook.id,
    default=sorted_by(_TITLE),
)


@dataclass(frozen=True, slots=True)
class RunbookFilter:
    """Which runbooks are asked for; None or empty asks for all.

    Those of an environment are those that apply in it.
    """

    service_id: UUID | None = None
    environment_id: UUID | None = None
    tag: str = ""

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return the conditions that are asked for."""
        asked: list[ColumnElement[bool]] = []
        if self.service_id is not None:
            asked.append(_runbook.service_id == self.service_id)
        if self.environment_id is not None:
            place = _runbook.environment_id
            asked.append(or_(place == self.environment_id, place.is_(None)))
        if self.tag:
            asked.append(_runbook.tags.contains([self.tag]))
        return asked


async def find(tx: AsyncConnection, runbook_id: UUID) -> Runbook | None:
    """Return the runbook with this id."""
    return await one(tx, Runbook, _WHOLE.where(_runbook.id == runbook_id))


async def find_locked(tx: AsyncConnection, runbook_id: UUID) -> Runbook | None:
    """Return the runbook like `find`, and keep everybody else from changing it."""
    return await one_locked(tx, Runbook, _WHOLE, _runbook, _runbook.id == runbook_id)


async def listed(
    tx: AsyncConnection, chosen: RunbookFilter, wanted: Listing, at: PageRequest
) -> Page[Runbook]:
    """Return a page of the runbooks asked for, by title unless asked otherwise, no content."""
    query = _WITHOUT_CONTENT.where(*chosen.conditions())
    if not wanted.show_archived:
        query = query.where(_runbook.archived_at.is_(None))
    if wanted.query:
        query = query.where(_runbook.words.op("@@")(reading.searched(wanted.query)))
    return await reading.listed(tx, Runbook, query, _FIELDS, wanted, at)


async def version(tx: AsyncConnection, runbook_id: UUID, number: int) -> RunbookVersion | None:
    """Return a version of a runbook, the draft for 0."""
    same = (_version.runbook_id == runbook_id, _version.version == number)
    return await one(tx, RunbookVersion, _VERSIONS.where(*same))


async def versions(
    tx: AsyncConnection, runbook_id: UUID, wanted: PageRequest
) -> Page[RunbookVersion]:
    """Return a page of the versions of a runbook, the draft first and then the newest."""
    # The draft is 0 and yet the newest: it sorts as the largest number.
    age = func.coalesce(func.nullif(_version.version, DRAFT), LATEST)
    query = _VERSIONS.where(_version.runbook_id == runbook_id)
    return await reading.page(tx, RunbookVersion, query, sorted_by(age, descending=True), wanted)


async def put_version(tx: AsyncConnection, made: RunbookVersion) -> None:
    """Store a version, or the draft instead of the one before."""
    values = {
        "environment_id": made.environment_id,
        "created_by": made.created_by,
        "title": made.title,
        "content": made.content,
        "tags": list(made.tags),
    }
    statement = insert(_version).values(
        id=new_id(),
        runbook_id=made.runbook_id,
        version=made.version,
        published_at=made.published_at,
        created_at=made.created_at,
        updated_at=made.created_at,
        **values,
    )
    keys = [_version.runbook_id, _version.version]
    await tx.execute(statement.on_conflict_do_update(index_elements=keys, set_=values))


async def drop_draft(tx: AsyncConnection, runbook_id: UUID) -> None:
    """Delete the draft of a runbook."""
    await tx.execute(
        delete(_version).where(_version.runbook_id == runbook_id, _version.version == DRAFT)
    )


async def title_is_taken(tx: AsyncConnection, runbook: Runbook, title: str) -> bool:
    """Say whether another runbook of the service is shown under a title."""
    same = (_runbook.service_id == runbook.service_id, func.lower(title) == _TITLE)
    return bool(await tx.scalar(select(exists().where(*same, _runbook.id != runbook.id))))
