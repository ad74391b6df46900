"""A catalog with years in it, as the service sees it."""

from collections.abc import AsyncIterator

import asyncpg
import pytest_asyncio

from benchmarks.catalog_past import fill
from services.catalog.app import database as database_of
from shared.db.engine import Database
from shared.setting_values import driver_url
from shared.settings import read_settings
from tests.support.database import Databases


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def filled(databases: Databases) -> AsyncIterator[Database]:
    """Connections as the service has them, to a database with years in it."""
    with databases.fresh() as url:
        owner = await asyncpg.connect(driver_url(url))
        await fill(owner)
        await owner.close()
        database = database_of(read_settings(database_url=url))
        yield database
        await database.close()
