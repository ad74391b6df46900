"""The figures of DORA over a month whose deployments were counted by hand."""

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services.deployment.operations import dora
from services.deployment.operations.dora import Dora, DoraQuery
from services.deployment.rules.dora import Excluded, Figure, nearest_rank
from shared.db.engine import Database
from shared.setting_values import driver_url
from tests.support.database import Databases
from tests.support.delivered import Delivered, id_of

pytestmark = pytest.mark.asyncio(loop_scope="session")


def at(month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    """Return a moment of the year of the table."""
    return datetime(2024, month, day, hour, minute, tzinfo=UTC)


MAY, JUNE, JULY = 5, 6, 7
START, END = at(JUNE, 1), at(JULY, 1)
HOUR = timedelta(hours=1)

# Release, published, committed (None: created then stands in).
RELEASES: list[tuple[str, datetime, datetime | None]] = [
    ("alpha@1.0", at(MAY, 20), at(MAY, 19, 12)),
    ("alpha@1.1", at(JUNE, 2), at(JUNE, 1)),  # never deployed: 1.2 brings it
    ("alpha@1.2", at(JUNE, 3), at(JUNE, 2, 12)),
    ("alpha@1.3", at(JUNE, 8), None),
    ("alpha@1.4", at(JUNE, 14), at(JUNE, 13)),
    ("alpha@1.6", at(JUNE, 20), at(JUNE, 19, 12)),
    ("alpha@1.7", at(JUNE, 27), at(JUNE, 26)),
    ("beta@0.9", at(MAY, 1), at(MAY - 1, 20)),  # never deployed: the first deployment brings it
    ("beta@1.0", at(MAY, 30), at(MAY, 29)),
    ("beta@2.0", at(JUNE, 29), at(JUNE, 28)),
    ("gamma@1.0", at(JUNE, 30), at(JUNE, 30)),
    ("delta@1.0", at(JUNE, 30), at(JUNE, 30)),
    ("epsilon@1.0", at(JUNE, 17), at(JUNE, 17)),
]
# Name, release, end, and what is unusual about it.
DEPLOYMENTS: list[tuple[str, str, datetime | None, Mapping[str, Any]]] = [
    # Before the interval; makes 1.0 known in prod.
    ("A0", "alpha@1.0", at(MAY, 25, 12), {}),
    # Brings 1.1 and 1.2: from Jun 1 00:00 to Jun 4 12:00, 84 h.
    ("A1", "alpha@1.2", at(JUNE, 4, 12), {}),
    # Failed at Jun 9 11:00; A3 restores at 15:00, 4 h.
    ("A2", "alpha@1.3", at(JUNE, 9, 11), {"status": "failed", "failure": "failed"}),
    # From the creation on Jun 8 00:00 to Jun 9 15:00, 39 h.
    ("A3", "alpha@1.3", at(JUNE, 9, 15), {}),
    # Brings nothing new, and is no change.
    ("A4", "alpha@1.3", at(JUNE, 10, 9), {"kind": "redeploy"}),
    # Says nothing about the release.
    ("A5", "alpha@1.4", at(JUNE, 14, 9), {"status": "failed", "failure": "errored"}),
    # From Jun 13 00:00 to Jun 14 12:00, 36 h; A7 undoes it, and restores at 13:30, 1.5 h.
    ("A6", "alpha@1.4", at(JUNE, 14, 12), {}),
    ("A7", "alpha@1.3", at(JUNE, 14, 13, 30), {"undoes": "A6"}),
    # Ended before it reached prod.
    ("A10", "alpha@1.6", at(JUNE, 20, 1), {"status": "rejected", "untouched": True}),
    # From Jun 19 12:00 to Jun 21 12:00, 48 h: the abandoned 1.5 is not brought. Marked bad by hand;
    # the redeploy of the same release restores nothing, A9 does so on Jul 2 12:00, 264 h.
    ("A8", "alpha@1.6", at(JUNE, 21, 12), {}),
    ("A8r", "alpha@1.6", at(JUNE, 22, 12), {"kind": "redeploy"}),
    # Reached prod and was stopped: a change that did not fail, and that did not complete.
    ("A11", "alpha@1.7", at(JUNE, 28, 18), {"status": "cancelled"}),
    ("A9", "alpha@1.7", at(JULY, 2, 12), {}),
    # At the first moment of the interval, and the first one ever: from Apr 20 to Jun 1, 1008 h.
    ("B1", "beta@1.0", START, {}),
    # From Jun 28 to Jun 30, 48 h; undone after the end, restored at Jul 3 06:00, 78 h.
    ("B2", "beta@2.0", at(JUNE, 30), {}),
    ("B3", "beta@1.0", at(JULY, 3, 6), {"undoes": "B2"}),
    # At the end, which does not belong to the interval.
    ("G1", "gamma@1.0", END, {}),
    # Reached prod and runs still.
    ("D1", "delta@1.0", None, {"status": "in-progress", "touched_at": at(JUNE, 30, 20)}),
    # Nothing has completed since.
    ("E1", "epsilon@1.0", at(JUNE, 18), {"status": "failed", "failure": "failed"}),
    # In an archived environment of type prod, the first one there: from May 19 12:00, 336 h.
    ("X1", "alpha@1.0", at(JUNE, 2, 12), {"environment": "prod-old"}),
    # Elsewhere.
    ("S1", "alpha@1.2", at(JUNE, 3, 12), {"environment": "staging"}),
]


async def write(past: Delivered) -> None:
    """Write the month."""
    await past.begin()
    for name, kind in {"prod": "prod", "prod-old": "prod", "staging": "staging"}.items():
        archived = {"archived_at": at(JUNE, 20)} if name == "prod-old" else {}
        await past.environment(name, kind, **archived)
    for team, services in {"One": ("alpha",), "Two": ("beta", "gamma", "delta", "epsilon")}.items():
        await past.team(team)
        for service in services:
            await past.service(service, team)
    for name, published_at, committed_at in RELEASES:
        await past.release(name, published_at, committed_at)
    await past.release("alpha@1.5", at(JUNE, 15), at(JUNE, 10), status="abandoned")
    for deployment, release, ended_at, more in DEPLOYMENTS:
        await past.deployment(deployment, release, ended_at, **more)
    # Three marks are one failure; the one of A1 was cleared, so that it is none.
    await past.mark("by-rollback", "alpha@1.4", at(JUNE, 14, 12, 30), because_of="A6")
    await past.mark("everywhere", "alpha@1.4", at(JUNE, 14, 14), environment=None)
    await past.mark("by-hand", "alpha@1.6", at(JUNE, 25))
    await past.mark("mistaken", "alpha@1.2", at(JUNE, 5), cleared_at=at(JUNE, 6))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def month(databases: Databases) -> AsyncIterator[Database]:
    with databases.fresh() as url:
        connection = await asyncpg.connect(driver_url(url))
        await write(Delivered(connection))
        await connection.close()
        database = Database(url, role="rm_deployment", application_name="dora")
        yield database
        await database.close()


async def figures(month: Database, **about: Any) -> Dora:
    return await dora.figures(month, DoraQuery(**{"start": START, "end": END, **about}))


def named(*names: str) -> set[Any]:
    return {id_of(name) for name in names}


def counted(figure: Figure) -> set[Any]:
    return {one.delivery.id for one in figure.counted}


def excluded(figure: Figure) -> dict[Excluded, set[Any]]:
    return {reason: {one.id for one in some} for reason, some in figure.excluded.items()}


def durations(figure: Figure) -> dict[Any, timedelta | None]:
    return {one.delivery.id: one.duration for one in figure.counted}


NOT_IN_ANY = {
    Excluded.ROLLBACK: named("A7"),
    Excluded.OPEN: named("D1"),
    Excluded.NEVER_TOUCHED: named("A10"),
}
NOT_FREQUENT = {**NOT_IN_ANY, Excluded.NOT_COMPLETED: named("A2", "A5", "A11", "E1")}


async def test_the_frequency_counts_what_completed_in_the_interval(month: Database) -> None:
    found = await figures(month)
    assert found.environments == ("prod", "prod-old")
    wanted = named("A1", "A3", "A4", "A6", "A8", "A8r", "B1", "B2", "X1")
    assert counted(found.frequency) == wanted
    assert excluded(found.frequency) == NOT_FREQUENT
    # Jun 1, 2, 4, 9, 10, 14, 21, 22 and 30.
    assert (found.frequency.days, found.interval.days) == (9, 30)


async def test_the_lead_time_begins_with_the_earliest_commit_not_yet_there(month: Database) -> None:
    found = (await figures(month)).lead_time
    wanted = {"A1": 84, "A3": 39, "A6": 36, "A8": 48, "B1": 1008, "B2": 48, "X1": 336}
    assert durations(found) == {id_of(name): hours * HOUR for name, hours in wanted.items()}
    assert excluded(found) == {**NOT_FREQUENT, Excluded.NOTHING_NEW: named("A4", "A8r")}
    # 36, 39, 48, 48, 84, 336, 1008: the fourth, and the seventh.
    assert nearest_rank(found.durations, 50) == 48 * HOUR
    assert nearest_rank(found.durations, 90) == 1008 * HOUR
    brought = {one.delivery.id: one.brought for one in found.counted}
    said = {
        name: (one.earliest.name, one.earliest.commit_time is not None, one.releases)
        for name in ("A1", "A3", "A8", "B1")
        if (one := brought[id_of(name)]) is not None
    }
    assert said == {
        "A1": ("alpha@1.1", True, 2),
        "A3": ("alpha@1.3", False, 1),
        "A8": ("alpha@1.6", True, 1),
        "B1": ("beta@0.9", True, 2),
    }


async def test_a_change_fails_once_however_much_speaks_against_it(month: Database) -> None:
    found = (await figures(month)).changes
    failed = {"A2", "A6", "A8", "B2", "E1"}
    assert counted(found) == named(*failed, "A1", "A3", "A11", "B1", "X1")
    assert {one.delivery.id for one in found.failed} == named(*failed)
    assert excluded(found) == {
        **NOT_IN_ANY,
        Excluded.REDEPLOY: named("A4", "A8r"),
        Excluded.ERRORED: named("A5"),
    }
    reasons = {one.delivery.id: (list(one.failures), set(one.marks)) for one in found.failed}
    assert reasons == {
        id_of("A2"): (["failed"], set()),
        id_of("A6"): (["rolled_back", "marked_bad"], named("by-rollback", "everywhere")),
        id_of("A8"): (["marked_bad"], named("by-hand")),
        id_of("B2"): (["rolled_back"], set()),
        id_of("E1"): (["failed"], set()),
    }


async def test_a_failure_lasts_until_the_next_completion_that_stands(month: Database) -> None:
    found = (await figures(month)).restoring
    restored = {"A2": 4 * HOUR, "A6": 1.5 * HOUR, "A8": 264 * HOUR, "B2": 78 * HOUR}
    assert durations(found) == {
        **{id_of(name): length for name, length in restored.items()},
        id_of("E1"): None,
    }
    by = {one.delivery.id: one.restored.by for one in found.counted if one.restored is not None}
    pairs = {"A2": "A3", "A6": "A7", "A8": "A9", "B2": "B3"}
    assert by == {id_of(name): id_of(other) for name, other in pairs.items()}
    assert excluded(found) == {Excluded.UNRESTORED: named("E1")}
    # 1.5, 4, 78, 264: the second, and the fourth.
    assert nearest_rank(found.durations, 50) == 4 * HOUR
    assert nearest_rank(found.durations, 90) == 264 * HOUR


def parts(found: Iterable[Dora]) -> list[tuple[set[Any], Any, Any]]:
    """Return per figure the union of what several answers counted, measured and left out."""
    answers = list(found)
    together = []
    for name in ("frequency", "lead_time", "changes", "restoring"):
        each = [getattr(answer, name) for answer in answers]
        ids = [one.delivery.id for figure in each for one in figure.counted]
        assert len(ids) == len(set(ids)), "in two parts"
        left_out: dict[Excluded, set[Any]] = {}
        for figure in each:
            for reason, some in excluded(figure).items():
                left_out[reason] = left_out.get(reason, set()) | some
        measured = {key: value for figure in each for key, value in durations(figure).items()}
        together.append((set(ids), measured, left_out))
    return together


async def test_the_teams_together_are_all(month: Database) -> None:
    teams = [await figures(month, team=team) for team in ("one", "Two")]
    assert parts(teams) == parts([await figures(month)])


async def test_services_and_environments_together_are_all(month: Database) -> None:
    names = ("alpha", "beta", "gamma", "delta", "epsilon")
    asked = [
        await figures(month, service=name, environment=place)
        for name in names
        for place in ("prod", "prod-old")
    ]
    assert parts(asked) == parts([await figures(month)])


@pytest.mark.parametrize(
    "middle",
    [at(JUNE, 1, 0, 1), at(JUNE, 4, 12), at(JUNE, 9, 12), at(JUNE, 14, 13), at(JUNE, 30, 21)],
    ids=str,
)
async def test_the_halves_of_an_interval_together_are_the_whole(
    month: Database, middle: datetime
) -> None:
    halves = [await figures(month, end=middle), await figures(month, start=middle)]
    assert parts(halves) == parts([await figures(month)])


async def test_where_nothing_ended_there_is_no_data(month: Database) -> None:
    found = await figures(month, start=at(1, 1), end=at(2, 1))
    assert not found.seen
    assert parts([found]) == [(set(), {}, {})] * 4
    failed_only = await figures(month, service="epsilon")
    assert failed_only.seen
    assert counted(failed_only.frequency) == set()


async def test_the_example_of_the_manual(month: Database) -> None:
    found = await figures(month, service="alpha", environment="Prod")
    assert counted(found.frequency) == named("A1", "A3", "A4", "A6", "A8", "A8r")
    assert found.frequency.days == 6
    spreads = [
        [nearest_rank(figure.durations, rank) for rank in (50, 90)]
        for figure in (found.lead_time, found.restoring)
    ]
    assert spreads == [[39 * HOUR, 84 * HOUR], [4 * HOUR, 264 * HOUR]]
    assert counted(found.changes) == named("A1", "A2", "A3", "A6", "A8", "A11")
    assert {one.delivery.id for one in found.changes.failed} == named("A2", "A6", "A8")
    assert found.restoring.excluded == {}
