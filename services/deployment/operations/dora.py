"""The figures of DORA: read in one snapshot, decided by `rules.dora`."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.rules import dora
from services.deployment.rules.dora import LONGEST, Delivery, Figure, Interval
from services.deployment.store import board_rows, deliveries, references
from services.deployment.store.deliveries import Choice
from shared.db.engine import Database
from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed

MOST_STATEMENTS: Final = 9
"""How many statements an answer takes at most, whatever it is about."""


@dataclass(frozen=True, slots=True)
class DoraQuery:
    """What the figures are about: names or ids, empty for any; until now without an end."""

    start: datetime
    end: datetime | None = None
    service: str = ""
    team: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Dora:
    """The figures of an interval, as of a moment; `seen` says that anything ended in it at all."""

    interval: Interval
    as_of: datetime
    environments: tuple[str, ...]
    seen: bool
    frequency: Figure
    lead_time: Figure
    changes: Figure
    restoring: Figure


async def figures(db: Database, query: DoraQuery) -> Dora:
    """Return the four figures, in at most `MOST_STATEMENTS` statements.

    Raises ResourceNotFound for what the query names, and ValidationFailed for its interval.
    """
    async with db.snapshot() as tx:
        now = await board_rows.moment(tx)
        interval = interval_of(query, now)
        choice, names = await _choice(tx, query)
        found = await deliveries.deliveries(tx, choice, interval)
        frequency = await asyncio.to_thread(dora.frequency, found)
        pairs = {(one.service_id, one.environment_id) for one in _deliveries(frequency)}
        candidates = await deliveries.candidates(tx, sorted(pairs), interval) if pairs else []
        touched = [one.touched_at for one in found if one.touched_at is not None]
        marks = await deliveries.marks(tx, choice, min(touched)) if touched else {}
        changes = await asyncio.to_thread(dora.change_failures, found, marks)
        failed = [one.delivery.id for one in changes.failed]
        restored = await deliveries.restorations(tx, failed, marks) if failed else {}
    brought = await asyncio.to_thread(dora.arrivals, candidates)
    return Dora(
        interval=interval,
        as_of=now,
        environments=names,
        seen=any(one.ended_at is not None for one in found),
        frequency=frequency,
        lead_time=await asyncio.to_thread(dora.lead_time, frequency, brought),
        changes=changes,
        restoring=await asyncio.to_thread(dora.restoring, changes, restored),
    )


def interval_of(query: DoraQuery, now: datetime) -> Interval:
    """Return the interval that is asked about; raises ValidationFailed for what is none."""
    end = query.end or now
    wrong = None
    if end > now:
        wrong = (
            "end",
            f"must not lie in the future; by the clock of the database it is {now:%FT%TZ}",
        )
    elif query.start >= end:
        wrong = ("start", "must be before end, which is now when it is absent")
    elif end - query.start > LONGEST:
        wrong = ("start", f"must be at most {LONGEST.days} days before end")
    if wrong is not None:
        first = f"{wrong[0]} {wrong[1]}"
        raise ValidationFailed(count=1, first=first, fields=(FieldViolation(*wrong),))
    return Interval(query.start, end)


async def _choice(tx: AsyncConnection, query: DoraQuery) -> tuple[Choice, tuple[str, ...]]:
    """Return what is meant, and the names of the environments."""
    service = await references.service(tx, query.service) if query.service else None
    team = await references.team(tx, query.team) if query.team else None
    if query.environment:
        named = await references.environment(tx, query.environment)
        places = [(named.id, named.name)]
    else:
        places = await deliveries.production(tx)
    choice = Choice(
        environment_ids=tuple(place for place, _ in places),
        service_id=service.id if service else None,
        team_id=team.id if team else None,
    )
    return choice, tuple(name for _, name in places)


def _deliveries(figure: Figure) -> list[Delivery]:
    return [one.delivery for one in figure.counted]
