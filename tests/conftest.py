"""Fixtures for every test: databases, and the whole product on one."""

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from tests.support.database import Databases, server
from tests.support.platform import Platform, running_platform

# The same wherever tests run, with `CI` set or without. How long an example takes says nothing on a
# busy machine, and whether a change passes is not left to chance: the examples change with the code
# only. New ones are looked for by `make faults`.
settings.register_profile(
    "tests",
    derandomize=True,
    database=None,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile(
    "new-examples", settings.get_profile("tests"), derandomize=False, max_examples=1_000
)
settings.load_profile("tests")


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """Databases of this test process; the server starts when the first test asks."""
    with server() as url:
        made = Databases(url)
        yield made
        made.close()


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """The URL of a database of this test alone, with the newest schema and no rows."""
    with databases.fresh() as url:
        yield url


@pytest.fixture
def seeded_database_url(databases: Databases) -> Iterator[str]:
    """The URL of a database of this test alone, with the seed (its password hashes are cheap)."""
    with databases.fresh(seeded=True) as url:
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def platform(databases: Databases) -> AsyncIterator[Platform]:
    """The three services on a seeded database, one for each module of tests.

    They run in the event loop of the session, so such tests are marked
    `pytest.mark.asyncio(loop_scope="session")`.
    """
    with databases.fresh(seeded=True) as url:
        async with running_platform(url) as running:
            yield running
