"""Releases by when they were published, for many services at once."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import DateTime, cast, column, func, select, true, tuple_
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import UUID as PG_UUID
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.models.catalog import Release


@dataclass(frozen=True, slots=True)
class Span:
    """What of a service lies between two releases, each with when it was published."""

    service_id: UUID
    older_at: datetime
    older: UUID
    newer_at: datetime
    newer: UUID


@dataclass(frozen=True, slots=True)
class Between:
    """A release in a span; `count` is how many there are in it."""

    id: UUID
    version: str
    published_at: datetime
    count: int


async def published_at(tx: AsyncConnection, releases: Collection[UUID]) -> dict[UUID, datetime]:
    """Return when each of these releases was published; drafts are left out."""
    query = select(Release.id, Release.published_at).where(
        Release.id.in_(releases), Release.published_at.is_not(None)
    )
    found = (await tx.execute(query)).all()
    return {release_id: moment for release_id, moment in found if moment is not None}


async def between(
    tx: AsyncConnection, spans: Sequence[Span], at_most: int
) -> Mapping[UUID, list[Between]]:
    """Return by service the newest releases that were published between two of its releases."""
    found: dict[UUID, list[Between]] = defaultdict(list)
    ids, times = ARRAY(PG_UUID(as_uuid=True)), ARRAY(DateTime(timezone=True))
    span = (
        func.unnest(
            cast([one.service_id for one in spans], ids),
            cast([one.older_at for one in spans], times),
            cast([one.older for one in spans], ids),
            cast([one.newer_at for one in spans], times),
            cast([one.newer for one in spans], ids),
        )
        .table_valued(
            column("service_id", PG_UUID),
            column("older_at", DateTime(timezone=True)),
            column("older", PG_UUID),
            column("newer_at", DateTime(timezone=True)),
            column("newer", PG_UUID),
        )
        .render_derived()
    )
    order = tuple_(Release.published_at, Release.id)
    inside = (
        select(Release.id, Release.version, Release.published_at, func.count().over().label("all"))
        .where(
            Release.service_id == span.c.service_id,
            # The bounds of the column alone are what the index on it is asked for.
            Release.published_at >= span.c.older_at,
            Release.published_at <= span.c.newer_at,
            order > tuple_(span.c.older_at, span.c.older),
            order < tuple_(span.c.newer_at, span.c.newer),
        )
        .order_by(Release.published_at.desc(), Release.id.desc())
        .limit(at_most)
        .correlate(span)
        .lateral()
    )
    query = (
        select(span.c.service_id, inside)
        .select_from(span.join(inside, true()))
        .order_by(inside.c.published_at.desc(), inside.c.id.desc())
    )
    for row in (await tx.execute(query)).all():
        found[row[0]].append(Between(*row[1:]))
    return found
