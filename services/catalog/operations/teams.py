"""Teams."""

from dataclasses import dataclass

from services.catalog.operations import resolving
from services.catalog.operations.recording import record_creation
from services.catalog.rules.pages import Page, PageRequest
from services.catalog.rules.resources import Team
from services.catalog.store import teams
from services.catalog.store.writing import add, refused_as
from shared.db.engine import Database
from shared.db.models import catalog as tables
from shared.errors import ResourceExists
from shared.ids import new_id
from shared.outbox.change import Change


@dataclass(frozen=True, slots=True)
class NewTeam:
    """A team to be made."""

    name: str
    description: str


async def create(change: Change, new: NewTeam) -> Team:
    """Make a team; raises ResourceExists when its name is taken."""
    team = Team(
        id=new_id(),
        row_version=1,
        created_at=change.now,
        updated_at=change.now,
        name=new.name,
        description=new.description,
    )
    taken = ResourceExists(resource_type="team", resource=new.name)
    with refused_as({"uq_teams_name": taken}):
        await add(
            change.tx,
            tables.Team,
            change.now,
            id=team.id,
            name=team.name,
            description=team.description,
        )
    record_creation(change, "team", team)
    return team


async def get(db: Database, reference: str) -> Team:
    """Return a team by name or id."""
    async with db.snapshot() as tx:
        return await resolving.team(tx, reference)


async def page(db: Database, wanted: PageRequest) -> Page[Team]:
    """Return a page of all teams."""
    async with db.snapshot() as tx:
        return await teams.listed(tx, wanted)
