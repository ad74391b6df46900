"""The board: what runs of every service in every environment, now or at any past moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.operations.board_facts import Freezes, Locks
from services.deployment.rules.board import PairState, pair_state
from services.deployment.rules.freeze_outlook import Outlook
from services.deployment.rules.past import as_it_was
from services.deployment.store import board_rows, freezes, lock_rows, references
from services.deployment.store.board_rows import Key, PairFilter, PairNames
from services.deployment.store.lock_rows import LockRow
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed


@dataclass(frozen=True, slots=True)
class BoardQuery:
    """Which pairs to show, and as of when; empty is any, None is now."""

    page: PageRequest
    service: str = ""
    environment: str = ""
    team: str = ""
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Moment:
    """The moment that is told of, by the database's clock, and whether it lies in the past."""

    at: datetime
    past: bool


class Cell(NamedTuple):
    """A service in an environment, and how it is there.

    `locks` are those that hold there, the newest first. `freeze` is None when what freeze windows
    said at that moment is not known.
    """

    names: PairNames
    state: PairState
    locks: tuple[LockRow, ...]
    freeze: Outlook | None


@dataclass(frozen=True, slots=True)
class Board:
    """A page of the board and the moment that it tells of."""

    cells: Page[Cell]
    moment: Moment


async def cell(
    db: Database, service: str, environment: str, as_of: datetime | None
) -> tuple[Cell, Moment]:
    """Return one pair, also when nothing was ever deployed there.

    Raises ResourceNotFound, and ValidationFailed for a moment in the future.
    """
    async with db.snapshot() as tx:
        moment = await moment_of(tx, as_of)
        of = await references.service(tx, service)
        at = await references.environment(tx, environment)
        names = await board_rows.pair(tx, of.id, at.id)
        cells = await _cells(tx, [names], PairFilter(of.id, at.id), moment)
    return cells[0], moment


async def cells(db: Database, query: BoardQuery) -> Board:
    """Return a page of the board, in as many statements however many pairs there are.

    Raises ResourceNotFound, and ValidationFailed for a moment in the future.
    """
    async with db.snapshot() as tx:
        moment = await moment_of(tx, query.as_of)
        chosen = PairFilter(
            (await references.service(tx, query.service)).id if query.service else None,
            (await references.environment(tx, query.environment)).id if query.environment else None,
            (await references.team(tx, query.team)).id if query.team else None,
        )
        found = await board_rows.pairs(tx, query.page, chosen, moment.at)
        shown = await _cells(tx, found.entries, chosen, moment)
    return Board(Page(tuple(shown), found.last), moment)


async def moment_of(tx: AsyncConnection, as_of: datetime | None) -> Moment:
    """Return the moment that is asked about; raises ValidationFailed for one in the future."""
    now = await board_rows.moment(tx)
    if as_of is None:
        return Moment(now, past=False)
    if as_of > now:
        problem = f"it must not lie in the future; by the clock of the database it is {now:%FT%TZ}"
        violation = FieldViolation("as_of", problem)
        raise ValidationFailed(count=1, first=f"as_of: {problem}", fields=(violation,))
    return Moment(as_of, past=True)


async def states(tx: AsyncConnection, wanted: Sequence[Key], moment: Moment) -> list[PairState]:
    """Return how each pair (service, environment) is or was."""
    if moment.past:
        recorded = await board_rows.recorded(tx, wanted, moment.at)
        return [pair_state(as_it_was(history, moment.at)) for history in recorded]
    return [pair_state(history) for history in await board_rows.present(tx, wanted)]


async def _cells(
    tx: AsyncConnection, pairs: Sequence[PairNames], chosen: PairFilter, moment: Moment
) -> list[Cell]:
    keys = [(names.service_id, names.environment_id) for names in pairs]
    found = await states(tx, keys, moment)
    places = () if chosen.environment_id is None else (chosen.environment_id,)
    held = await lock_rows.held_at(
        tx, moment.at, service_id=chosen.service_id, environment_ids=places
    )
    read = await (freezes.made_by(tx, moment.at) if moment.past else freezes.in_force(tx))
    locks, windows = Locks(held), Freezes(read, moment.at, past=moment.past)
    return [
        Cell(names, state, locks.of(names), windows.of(names))
        for names, state in zip(pairs, found, strict=True)
    ]
