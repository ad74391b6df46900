"""Teams."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from services.catalog.operations import changing, creating, resolving
from services.catalog.operations.changing import Update
from services.catalog.operations.creating import first_version
from services.catalog.rules.resources import Team
from services.catalog.store import teams
from services.catalog.store.reading import Listing
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.errors import ResourceExists, ResourceReferenced
from shared.outbox.change import Change

KIND = "team"
_USED = {
    "fk_services_team_id": "a service",
    "fk_users_team_id": "a person",
    "fk_freeze_window_subjects_team_id": "a freeze window",
}


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
    await creating.create(change, KIND, team, _taken(new.name))
    return team


async def update(change: Change, wanted: Update) -> Team:
    """Change a team.

    Raises ResourceNotFound, EtagMismatch, ResourceArchived, and ResourceExists for its name.
    """
    team = await _to_change(change, wanted.reference, wanted.etag)
    changing.check_in_use(KIND, team, team.name)
    changed = replace(team, **wanted.values)
    taken = _taken(changed.name)
    return await changing.store(change, KIND, "update", team, changed, taken=taken)


async def archive(change: Change, reference: str, etag: str) -> Team:
    """Archive a team.

    Raises ResourceNotFound, EtagMismatch, and ResourceReferenced while it has services that are
    not archived, or active people.
    """
    team = await _to_change(change, reference, etag)
    used_by = await teams.used_by(change.tx, team)
    if used_by is not None:
        raise ResourceReferenced(resource_type=KIND, resource=team.name, used_by=used_by)
    return await changing.archive(change, KIND, team)


async def unarchive(change: Change, reference: str, etag: str) -> Team:
    """Take a team out of the archive; raises ResourceNotFound and EtagMismatch."""
    return await changing.unarchive(change, KIND, await _to_change(change, reference, etag))


async def delete(change: Change, reference: str, etag: str) -> None:
    """Delete a team; raises ResourceNotFound, EtagMismatch, ResourceReferenced."""
    team = await _to_change(change, reference, etag)
    await changing.delete(change, KIND, team, changing.referenced(KIND, team.name, _USED))


async def get(db: Database, reference: str) -> Team:
    """Return a team by name or id."""
    async with db.snapshot() as tx:
        return await resolving.team(tx, reference)


async def each(db: Database, references: Sequence[str]) -> list[Team]:
    """Return teams by names or ids, in that order; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        return await resolving.each(KIND, teams.find_each, tx, references)


async def page(db: Database, wanted: Listing, at: PageRequest) -> Page[Team]:
    """Return a page of the teams asked for; raises ExpressionInvalid."""
    async with db.snapshot() as tx:
        return await teams.listed(tx, wanted, at)


async def _to_change(change: Change, reference: str, etag: str) -> Team:
    team = await resolving.team_to_change(change.tx, reference)
    changing.check_etag(KIND, team, etag)
    return team


def _taken(name: str) -> dict[str, ResourceExists]:
    return {"uq_teams_name": ResourceExists(resource_type=KIND, resource=name)}
