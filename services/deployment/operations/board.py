"""The board: what runs of every service in every environment."""

from dataclasses import dataclass

from services.deployment.operations import facts
from services.deployment.rules.board import PairState, pair_state
from services.deployment.store import histories, references
from services.deployment.store.histories import PairNames
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest


@dataclass(frozen=True, slots=True)
class BoardQuery:
    """Which pairs to show; empty is any."""

    page: PageRequest
    service: str = ""
    environment: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A service in an environment, and how it is there."""

    names: PairNames
    state: PairState


async def cell(db: Database, service: str, environment: str) -> Cell:
    """Return one pair, also when nothing was ever deployed; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        of = await references.service(tx, service)
        at = await references.environment(tx, environment)
        rows = await histories.recent(tx, [(of.id, at.id)])
    names = PairNames(of.id, of.name, at.id, at.name)
    return Cell(names, pair_state(facts.history(rows.get((of.id, at.id), []))))


async def cells(db: Database, query: BoardQuery) -> Page[Cell]:
    """Return a page of the board, in at most four queries."""
    async with db.snapshot() as tx:
        service = environment = None
        if query.service:
            service = (await references.service(tx, query.service)).id
        if query.environment:
            environment = (await references.environment(tx, query.environment)).id
        found = await histories.pairs(
            tx, query.page, service_id=service, environment_id=environment
        )
        keys = [(names.service_id, names.environment_id) for names in found.entries]
        rows = await histories.recent(tx, keys)
    return found.map(
        lambda names: Cell(
            names, pair_state(facts.history(rows[names.service_id, names.environment_id]))
        )
    )
