"""A seeded database as the catalog sees it, and as its owner does."""

from collections.abc import AsyncIterator

import asyncpg
import pytest

from seed.rows import Connection
from shared.db.engine import Database
from shared.setting_values import driver_url


@pytest.fixture
async def db(seeded_database_url: str) -> AsyncIterator[Database]:
    database = Database(seeded_database_url, role="rm_catalog", application_name="test")
    yield database
    await database.close()


@pytest.fixture
async def owner(seeded_database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(driver_url(seeded_database_url))
    yield connection
    await connection.close()
