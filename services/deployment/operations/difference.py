"""Two environments compared, service by service, now or at any past moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations import board
from services.deployment.operations.board import Moment
from services.deployment.rules.board import PairState
from services.deployment.rules.difference import Published, Relation, relation
from services.deployment.store import board_rows, references, releases_between
from services.deployment.store.board_rows import PairFilter
from services.deployment.store.releases_between import Between, Span
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest

MOST_BETWEEN: Final = 20


@dataclass(frozen=True, slots=True)
class DifferenceQuery:
    """Which environments to compare, of which services, and as of when; empty is any."""

    page: PageRequest
    environment: str
    compared_with: str
    service: str = ""
    team: str = ""
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A service in both environments; `between` are releases published between the live ones.

    The newest of them come first, at most `MOST_BETWEEN`; each knows how many there are.
    """

    service_id: UUID
    service: str
    relation: Relation
    here: PairState
    there: PairState
    between: Sequence[Between]


@dataclass(frozen=True, slots=True)
class Differences:
    """A page of services and the moment that it tells of."""

    services: Page[Difference]
    moment: Moment


async def differences(db: Database, query: DifferenceQuery) -> Differences:
    """Return a page of services, in as many statements however many there are.

    Raises ResourceNotFound, and ValidationFailed for a moment in the future.
    """
    async with db.snapshot() as tx:
        moment = await board.moment_of(tx, query.as_of)
        here = (await references.environment(tx, query.environment)).id
        there = (await references.environment(tx, query.compared_with)).id
        chosen = PairFilter(
            service_id=(await references.service(tx, query.service)).id if query.service else None,
            team_id=(await references.team(tx, query.team)).id if query.team else None,
        )
        found = await board_rows.services(tx, query.page, chosen, moment.at, [here, there])
        shown = await _compared(tx, found.entries, (here, there), moment)
    return Differences(Page(tuple(shown), found.last), moment)


async def _compared(
    tx: AsyncConnection,
    services: Sequence[tuple[UUID, str]],
    places: tuple[UUID, UUID],
    moment: Moment,
) -> list[Difference]:
    keys = [(service_id, place) for place in places for service_id, _ in services]
    states = await board.states(tx, keys, moment)
    sides = list(zip(states[: len(services)], states[len(services) :], strict=True))
    lives = {state.runs.release_id for state in states if state.runs is not None}
    times = await releases_between.published_at(tx, lives)
    spans = [
        span
        for (service_id, _), (here, there) in zip(services, sides, strict=True)
        if (span := _span(service_id, _live(here, times), _live(there, times))) is not None
    ]
    between = await releases_between.between(tx, spans, MOST_BETWEEN)
    return [
        Difference(
            service_id,
            name,
            relation(_live(here, times), _live(there, times)),
            here,
            there,
            between.get(service_id, ()),
        )
        for (service_id, name), (here, there) in zip(services, sides, strict=True)
    ]


def _live(state: PairState, times: dict[UUID, datetime]) -> Published | None:
    if state.runs is None:
        return None
    release_id = state.runs.release_id
    return Published(release_id, times[release_id])


def _span(service_id: UUID, here: Published | None, there: Published | None) -> Span | None:
    """Return what to look between, None when there is nothing between the two."""
    if here is None or there is None or here.id == there.id:
        return None
    (older_at, older), (newer_at, newer) = sorted([(here.at, here.id), (there.at, there.id)])
    return Span(service_id, older_at, older, newer_at, newer)
