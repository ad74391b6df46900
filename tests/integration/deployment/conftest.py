"""The deployment service: one for each file of tests, and one for a test that changes people.

Tests that share one keep apart by deploying services of their own.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio

from benchmarks.board_past import fill
from services.deployment.app import database as database_of
from services.deployment.operations.deadlines import Deadlines
from shared.db.engine import Database
from shared.ids import new_id
from shared.setting_values import driver_url
from shared.settings import read_settings
from tests.support.database import Databases
from tests.support.deployments import World, running_world

_numbers = itertools.count(1)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def world(
    databases: Databases, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    with databases.fresh() as url:
        async with running_world(url, tmp_path_factory.mktemp("keys")) as running:
            yield running


@pytest_asyncio.fixture(loop_scope="session")
async def own_world(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with running_world(database_url, tmp_path) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def quiet_world(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[World]:
    """A service that never looks for what is due, for tests which do so themselves.

    Whoever looks while another one does goes away again.
    """

    async def never(_: Deadlines) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Deadlines, "run", never)
    async with running_world(database_url, tmp_path) as running:
        # As if it had looked just now, for as long as a test lasts.
        await running.database.execute(
            "UPDATE deadline_watch SET looked_at = now() + interval '1 hour'"
        )
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def database(world: World) -> AsyncIterator[Database]:
    """Connections to the database of the world, as the service has them."""
    db = Database(world.database_url, role="rm_deployment", application_name="test", pool_size=4)
    yield db
    await db.close()


@pytest_asyncio.fixture(loop_scope="session")
async def place(world: World) -> AsyncIterator[str]:
    """An environment of this test alone, first in the promotion order as long as it lasts."""
    name = f"place-{new_id()}"
    world.environments[name] = new_id()
    await world.insert(
        "environments",
        id=world.environments[name],
        name=name,
        environment_type="dev",
        promotion_order=0,
    )
    yield name
    await world.database.execute(
        "UPDATE environments SET archived_at = now() WHERE name = $1", name
    )


@pytest.fixture
def app() -> str:
    """The name of a service that no other test deploys."""
    return f"app{next(_numbers)}"


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def filled(databases: Databases) -> AsyncIterator[Database]:
    """Connections as the service has them, to a database with a year of deployments in it."""
    with databases.fresh() as url:
        owner = await asyncpg.connect(driver_url(url))
        await fill(owner)
        await owner.close()
        database = database_of(read_settings(database_url=url))
        yield database
        await database.close()
