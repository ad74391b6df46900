"""Guessing a password: every try counts, and few are compared (OWASP ASVS 6.1.1, 6.3.1).

Of fifty wrong log-ins at the same moment exactly fifty are counted, and of one account no more than
ten passwords are compared in a quarter of an hour: neither from many sources together, nor from one
that the account has logged in from before. Meanwhile the right password has to wait as well, and
the owner does not: `tests/rpc/catalog/test_lockout.py`.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from shared.domain_error import DomainError
from shared.errors import LoginBusy, LoginRefused
from shared.setting_values import driver_url
from tests.rpc.catalog.identities import SECOND, Identities
from tests.support.database import Databases
from tests.support.platform import Platform, running_platform

pytestmark = pytest.mark.asyncio(loop_scope="session")

AT_ONCE = 50
MOST_COMPARED = 10
PAUSE_S = 0.05
HOME = "198.51.100.7"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def platform(databases: Databases) -> AsyncIterator[Platform]:
    """Run the product behind a proxy, so that calls come from the addresses they state."""
    with databases.fresh(seeded=True) as url:
        async with running_platform(url, trusted_proxies="127.0.0.0/8") as running:
            yield running


@pytest_asyncio.fixture(loop_scope="session")
async def owner(platform: Platform) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(driver_url(platform.database_url))
    yield connection
    await connection.close()


async def guess(platform: Platform, name: str, source: str, password: str) -> DomainError:
    """Try a password once, waiting for as long as too many others are tried."""
    where = (("x-forwarded-for", source),)
    while True:
        error = await Identities(platform).refused("Login", where, username=name, password=password)
        if not isinstance(error, LoginBusy):
            return error
        assert error.retry_after is not None
        await asyncio.sleep(PAUSE_S)


async def counted(owner: Any, account: str, source: str = "") -> Any:
    return await owner.fetchrow(
        "SELECT failures, refused FROM login_throttles WHERE account = $1 AND source = $2",
        account,
        source,
    )


@pytest.mark.parametrize("source", ["203.0.113.{}", HOME], ids=["many sources", "a known one"])
async def test_of_fifty_at_once_each_is_counted_and_few_are_compared(
    platform: Platform, owner: Any, source: str
) -> None:
    user = await Identities(platform).person()
    home = (("x-forwarded-for", HOME),)
    await Identities(platform).call("Login", home, username=user.username, password=SECOND)
    tried = [
        guess(platform, user.username, source.format(number), "wrong words")
        for number in range(AT_ONCE)
    ]
    answers = await asyncio.gather(*tried)
    assert {type(answer) for answer in answers} == {LoginRefused}
    assert len({str(answer) for answer in answers}) == 1
    row = await counted(owner, f"user:{user.id}")
    assert row["failures"] + row["refused"] == AT_ONCE
    assert row["failures"] <= MOST_COMPARED


async def test_the_eleventh_in_a_quarter_of_an_hour_waits_even_at_home(
    platform: Platform, owner: Any
) -> None:
    """Without the delays between them, which would let no attacker get that far."""
    user = await Identities(platform).person()
    home = (("x-forwarded-for", HOME),)
    await Identities(platform).call("Login", home, username=user.username, password=SECOND)
    for _ in range(MOST_COMPARED + 4):
        await owner.execute("UPDATE login_throttles SET delayed_until = NULL")
        await guess(platform, user.username, HOME, "wrong words")
    row = await counted(owner, f"user:{user.id}", HOME)
    assert (row["failures"], row["refused"]) == (MOST_COMPARED, 4)
    await owner.execute("UPDATE login_throttles SET delayed_until = NULL")
    assert isinstance(await guess(platform, user.username, HOME, SECOND), LoginRefused)
