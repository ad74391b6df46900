"""Changes for the tests: versions of teams, with and without the teams themselves."""

from collections.abc import Iterable
from uuid import UUID, uuid4

import structlog
from release_manager.catalog.v1 import catalog_pb2 as pb
from sqlalchemy import func, select

from seed.rows import Connection
from services.catalog.messages import teams as messages
from services.catalog.operations import teams
from services.catalog.rules.resources import Team
from shared.db.engine import Database
from shared.ids import new_id
from shared.outbox.append import append_events
from shared.outbox.change import Change, Changes
from shared.outbox.events import Event
from shared.outbox.relay import Relay

PRODUCER = "catalog"
CREATE_TEAM = "/release_manager.catalog.v1.CatalogService/CreateTeam"

log = structlog.get_logger(__name__)


def version(aggregate: str, sequence: int) -> Event:
    """Return the event of one version of an aggregate."""
    kind, _, resource_id = aggregate.partition(":")
    return Event("update", aggregate, sequence, kind, resource_id, {"version": sequence})


def aggregates(count: int) -> list[str]:
    """Return names of new aggregates."""
    return [f"team:{uuid4()}" for _ in range(count)]


async def commit(db: Database, events: Iterable[Event]) -> list[UUID]:
    """Commit events without a change; return their ids."""
    made = [(new_id(), event) for event in events]
    async with db.transaction() as tx:
        now = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
        await append_events(tx, producer=PRODUCER, call=None, now=now, events=made)
    return [event_id for event_id, _ in made]


async def create_team(
    changes: Changes, name: str, *, request_id: str = "", validate_only: bool = False
) -> pb.CreateTeamResponse:
    """Create a team as the servicer does."""
    request = pb.CreateTeamRequest(name=name, request_id=request_id, validate_only=validate_only)

    async def work(change: Change) -> Team:
        return await teams.create(change, messages.new_team(request))

    return await changes.answer(request, pb.CreateTeamResponse, work, messages.team_created)


async def drain(relay: Relay) -> None:
    """Deliver until nothing is left to deliver."""
    while await relay.deliver_once():
        pass


async def waiting(owner: Connection) -> int:
    """Return how many events wait."""
    found: int = await owner.fetchval(
        "SELECT count(*) FROM outbox WHERE sent_at IS NULL AND parked_at IS NULL"
    )
    return found


async def row_of(owner: Connection, event_id: UUID) -> dict[str, object]:
    """Return a row of the outbox."""
    row = await owner.fetchrow("SELECT * FROM outbox WHERE event_id = $1", event_id)
    assert row is not None
    return dict(row)
