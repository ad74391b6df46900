"""How the database answers readers: by which index, with how many statements, over all months."""

import itertools
import json
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql import asyncpg as dialects

from services.audit.reading import searching
from services.audit.reading.entries import PageQuery, Reading
from services.audit.reading.searching import FEW, FIRST
from services.audit.store import pages, queries
from services.audit.store.pages import EVERYTHING, PLANS, Asked, Driver
from services.audit.store.queries import ALL_CATEGORIES, Filter, Leaves
from shared.db.engine import Database
from shared.ids import new_id
from shared.paging import PageTokens
from tests.integration.audit.conftest import World
from tests.support.past_entries import made_up, put_in
from tests.support.plans import statements_sent

SIZE = 3_000
MONTHS = 7
VALUES: dict[str, Any] = {
    "resource_id": "r1",
    "user_id": new_id(),
    "action": "deploy",
    "resource_type": "team",
    "producer": "catalog",
    "categories": ("access",),
    "details": '{"incident":7}',
}
PAIRS = [
    *itertools.combinations(VALUES, 0),
    *itertools.combinations(VALUES, 1),
    *itertools.combinations(VALUES, 2),
]
LEAVES = Leaves(10, SIZE)
_DIALECT = dialects.dialect()  # type: ignore[no-untyped-call]


@pytest_asyncio.fixture
async def reader(world: World) -> AsyncIterator[Database]:
    """Connections as the service reads pages with, before a ledger of seven months."""
    await put_in(world.owner, made_up(SIZE, months=MONTHS, gone=4, seed=3), size=SIZE)
    database = Database(
        world.url, role="rm_audit_reader", application_name="test pages", settings=PLANS
    )
    yield database
    await database.close()


def wanted(names: tuple[str, ...]) -> Filter:
    everything: dict[str, Any] = {"categories": ALL_CATEGORIES}
    return Filter(**(everything | {name: VALUES[name] for name in names}))


async def plan(database: Database, asked: Asked) -> dict[str, Any]:
    """Return the plan that serves any parameters of a statement."""
    statement, parameters = asked
    return await explained(database, *driver_form(statement, parameters))


def driver_form(statement: Select[Any], parameters: dict[str, Any]) -> tuple[str, list[Any]]:
    compiled = statement.compile(dialect=_DIALECT)
    values = compiled.construct_params(parameters)
    given = [values[name] for name in compiled.positiontup or ()]
    return str(compiled), [json.dumps(one) if isinstance(one, dict) else one for one in given]


async def explained(database: Database, statement: str, given: list[Any]) -> dict[str, Any]:
    async with database.statements() as tx:
        driver: Any = (await tx.get_raw_connection()).driver_connection
        found = await driver.fetchval(f"EXPLAIN (GENERIC_PLAN, FORMAT JSON) {statement}", *given)
    made: list[dict[str, Any]] = json.loads(found) if isinstance(found, str) else found
    return dict(made[0]["Plan"])


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def scans(plan: dict[str, Any]) -> list[tuple[str, str]]:
    """Return kind and index of each scan of the ledger; the index by its columns."""
    return [
        (node["Node Type"], re.sub(r"^audit_logs_y\d{4}m\d\d_|_idx$", "", node["Index Name"]))
        for node in nodes(plan)
        if str(node.get("Relation Name", "")).startswith("audit_logs_y") or "Index Name" in node
    ]


def kinds(plan: dict[str, Any]) -> set[str]:
    return {node["Node Type"] for node in nodes(plan)}


ORDERED = {"Limit", "Merge Append", "Subquery Scan", "WindowAgg", "Index Scan"}


async def test_a_walk_goes_along_the_index_of_its_driver_whatever_the_filter(
    reader: Database,
) -> None:
    ways = [
        (filter_, driver, oldest_first)
        for filter_ in map(wanted, PAIRS)
        for driver in (EVERYTHING, *pages.drivers(filter_))
        for oldest_first in (True, False)
    ]
    several = wanted(("resource_id",)), Driver("category", ("change", "security"))
    ways += [(*several, oldest_first) for oldest_first in (True, False)]
    assert len(ways) > 100
    for filter_, driver, oldest_first in ways:
        walking = pages.walk(
            filter_, driver, LEAVES, examine=FIRST, size=101, oldest_first=oldest_first
        )
        index = "leaf_index" if driver.name is None else f"{driver.name}_leaf_index"
        found = await plan(reader, walking)
        used = scans(found)
        assert {used_index for _kind, used_index in used} == {index}
        assert len(used) >= MONTHS - 1
        # Several ways are put together, each with no more than a page.
        assert kinds(found) <= ORDERED | ({"Append", "Sort"} if driver.ways > 1 else set())


async def test_point_reads_dates_and_matches_use_keys(reader: Database) -> None:
    counting = pages.outlook(pages.drivers(wanted(("action", "categories"))), LEAVES, at_most=FEW)
    for asked, indexes in (
        ((queries.entry(leaf_index=3), {}), {"leaf_index"}),
        ((queries.entry(audit_log_id=new_id()), {}), {"pkey"}),
        (pages.first_leaf(new_id()), {"pkey"}),
        (
            pages.among(wanted(("details",)), [new_id()], size=9, oldest_first=False),
            {"pkey"},
        ),
        (counting, {"leaf_index", "action_leaf_index", "category_leaf_index"}),
    ):
        found = await plan(reader, asked)
        assert {index for _kind, index in scans(found)} == indexes
        assert "Seq Scan" not in kinds(found)


@pytest.mark.usefixtures("reader")
async def test_details_are_found_by_the_inverted_index_of_the_months_asked_for(
    world: World,
) -> None:
    function = await world.owner.fetchrow(
        "SELECT prosrc, proconfig FROM pg_proc WHERE proname = 'audit_details_matches'"
    )
    assert function is not None
    query = re.search(r"ARRAY\((.*)\);", function["prosrc"], re.DOTALL)
    assert query is not None
    statement = query[1]
    entries = made_up(SIZE, months=MONTHS, gone=4, seed=3)
    march = [entry.id for entry in entries if entry.created_at.month == 3]
    values = {
        "p_details": "'{\"incident\": 7}'",
        "p_first_id": f"'{march[0]}'",
        "p_end_id": f"'{march[-1]}'",
        "p_first_leaf": "0",
        "p_end_leaf": f"{SIZE}",
        "p_at_most": "100",
    }
    for name, value in values.items():
        statement = statement.replace(name, value)
    async with world.owner.transaction():
        for setting in function["proconfig"]:
            name, _, value = setting.partition("=")
            await world.owner.execute(f"SET LOCAL {name} = {value}")
        found = await world.owner.fetchval(f"EXPLAIN (FORMAT JSON) {statement}")
    made = json.loads(found)[0]["Plan"]
    assert scans_of_details(made) == ["audit_logs_y2024m03_details_idx"]
    assert "Seq Scan" not in kinds(made)


def scans_of_details(plan: dict[str, Any]) -> list[str]:
    return [node["Index Name"] for node in nodes(plan) if "Index Name" in node]


async def test_a_page_and_a_point_read_are_one_statement_each(
    reader: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = Reading(reader, PageTokens(b"k" * 32))

    async def statements(**fields: Any) -> int:
        with statements_sent(reader) as executed:
            await reading.page(PageQuery("m", new_id(), Filter(**fields), size=10))
        return len(executed)

    assert await statements() == 1
    assert await statements(action="deploy") == 1
    everything = {"categories": ALL_CATEGORIES}
    assert await statements(details='{"environment":"prod"}', **everything) == 1
    assert await statements(details='{"environment":"prod"}') == 1
    assert await statements(user_id=new_id()) == 1
    # As in a ledger of which this is a small part.
    monkeypatch.setattr(searching, "FEW", 100)
    assert await statements(details='{"incident":8}') <= 4
    with statements_sent(reader) as executed:
        await reading.by_leaf_index(7)
    assert len(executed) == 1
