"""One court for each file of races."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.properties.court import Court, running_court
from tests.support.database import Databases


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def court(databases: Databases) -> AsyncIterator[Court]:
    """The whole product, with a real ledger and a witness in the database."""
    with databases.fresh() as url:
        async with running_court(url) as running:
            yield running
