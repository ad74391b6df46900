"""The figures of DORA on 100,000 deployments: as many statements as on few, and by indexes."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Final

import asyncpg
import pytest
import pytest_asyncio

from services.deployment.operations import dora
from services.deployment.operations.dora import DoraQuery
from services.deployment.rules.dora import Interval
from services.deployment.store import deliveries
from services.deployment.store.deliveries import Choice
from shared.db.engine import Database
from shared.setting_values import driver_url
from tests.support.database import Databases
from tests.support.delivered import Delivered, id_of
from tests.support.plans import indexes, plans_of, scanned, shown, statements_sent

# Whichever test is the first waits for all the rows.
pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(600)]

MANY: Final = 100_000
SERVICES: Final = 200
FIRST: Final = datetime(2023, 1, 1, tzinfo=UTC)
MINUTES: Final = 10
# What a year of deployments must not be read from its first row to its last for.
LARGE: Final = {"deployments", "releases"}
# Deployment n is of service n % SERVICES and release n / 2, so that each is deployed twice.
_SERVICES: Final = """
    INSERT INTO services (id, name, team_id, owner_id)
    SELECT md5('s' || n)::uuid, 'many-' || n, $1, $2 FROM generate_series(0, $3 - 1) n
"""
_RELEASES: Final = """
    INSERT INTO releases (id, service_id, created_by, authors, version, status, commit_sha,
        artifact_digest, published_at, commit_time)
    SELECT md5('r' || n)::uuid, md5('s' || n % $2)::uuid, $1, ARRAY[$1::uuid], '1.' || n || '.0',
        'published', 'c0ffee', 'sha256:0', $3::timestamptz + n * interval '20 min',
        $3::timestamptz + n * interval '20 min' - interval '1 day'
    FROM generate_series(0, $4 / 2 - 1) n
"""
_DEPLOYMENTS: Final = """
    INSERT INTO deployments (id, release_id, service_id, environment_id, deployed_by, requesters,
        kind, status, artifact_digest, deployed_at, started_at, touched_at, completed_at,
        completed_seq, failure_class)
    SELECT md5('d' || n)::uuid, md5('r' || n / 2)::uuid, md5('s' || (n / 2) % $3)::uuid, $1, $2,
        ARRAY[$2::uuid], 'deploy',
        CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'completed' END, 'sha256:0',
        $4::timestamptz + n * interval '10 min', $4::timestamptz + n * interval '10 min',
        $4::timestamptz + n * interval '10 min', $4::timestamptz + n * interval '10 min',
        CASE WHEN n % 10 = 0 THEN NULL ELSE n END, CASE WHEN n % 10 = 0 THEN 'failed' END
    FROM generate_series(0, $5 - 1) n
"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def many(databases: Databases) -> AsyncIterator[Database]:
    with databases.fresh() as url:
        connection = await asyncpg.connect(driver_url(url))
        past = Delivered(connection)
        await past.begin()
        await past.environment("prod")
        await past.environment("staging", "staging")
        await past.team("One")
        who = id_of("somebody")
        # Without the checks of foreign keys, which would take most of the time.
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(_SERVICES, id_of("One"), who, SERVICES)
        await connection.execute(_RELEASES, who, SERVICES, FIRST, MANY)
        await connection.execute(_DEPLOYMENTS, id_of("prod"), who, SERVICES, FIRST, MANY)
        await connection.execute("ANALYZE")
        await connection.close()
        database = Database(url, role="rm_deployment", application_name="dora")
        yield database
        await database.close()


def over(days: int, **about: Any) -> DoraQuery:
    """Ask about days that lie in the middle of the rows."""
    start = FIRST + timedelta(days=200)
    return DoraQuery(**{"start": start, "end": start + timedelta(days=days), **about})


async def test_the_number_of_statements_does_not_grow(many: Database) -> None:
    numbers = {}
    for days in (10, 30, 365):
        with statements_sent(many) as seen:
            found = await dora.figures(many, over(days))
        numbers[days] = len(seen)
        assert len(found.frequency.counted) == days * 24 * 60 // MINUTES * 9 // 10
    assert len(set(numbers.values())) == 1, numbers
    assert numbers[10] <= dora.MOST_STATEMENTS


@pytest.mark.parametrize(
    ("about", "index"),
    [
        ({"service": "many-7"}, "ix_deployments_service_id_environment_id_completed_at"),
        ({"team": "One"}, "completed_at"),
        ({}, "ix_deployments_environment_id_completed_at"),
    ],
    ids=["service", "team", "all"],
)
async def test_a_month_of_a_long_history_is_reached_by_indexes(
    many: Database, about: dict[str, str], index: str
) -> None:
    plans = await plans_of(many, lambda: dora.figures(many, over(30, **about)))
    assert not scanned(plans) & LARGE, shown(plans)
    assert any(used.endswith(index) for used in indexes(plans)), shown(plans)


async def test_others_are_served_while_a_year_is_read(many: Database) -> None:
    held = [time.thread_time()]

    async def beat() -> None:
        while True:
            await asyncio.sleep(0)
            held.append(time.thread_time())

    choice = Choice((id_of("prod"),))
    year = Interval(FIRST, FIRST + timedelta(days=365))
    beating = asyncio.create_task(beat())
    gc.disable()  # what the other tests have left takes longer to look through than all of this
    try:
        async with many.snapshot() as tx:
            found = await deliveries.deliveries(tx, choice, year)
    finally:
        gc.enable()
    beating.cancel()
    assert len(found) == 365 * 24 * 60 // MINUTES
    longest = max(after - before for before, after in pairwise(held))
    assert longest < (held[-1] - held[0]) / 4
