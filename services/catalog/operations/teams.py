"""Teams."""

from dataclasses import dataclass

from services.catalog.operations import creating, resolving
from services.catalog.operations.creating import first_version
from services.catalog.rules.resources import Team
from services.catalog.store import teams
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.errors import ResourceExists
from shared.outbox.change import Change


@dataclass(frozen=True, slots=True)
class NewTeam:
    """A team to be made."""

    name: str
    description: str


async def create(change: Change, new: NewTeam) -> Team:
    """Make a team; raises ResourceExists when its name is taken."""
    team = Team(
        **first_version(change),
        name=new.name,
        description=new.description,
    )
    taken = ResourceExists(resource_type="team", resource=new.name)
    await creating.create(change, "team", team, {"uq_teams_name": taken})
    return team


async def get(db: Database, reference: str) -> Team:
    """Return a team by name or id."""
    async with db.snapshot() as tx:
        return await resolving.team(tx, reference)


async def page(db: Database, wanted: PageRequest) -> Page[Team]:
    """Return a page of all teams."""
    async with db.snapshot() as tx:
        return await teams.listed(tx, wanted)
