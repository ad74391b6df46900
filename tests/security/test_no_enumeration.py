"""A log-in that fails tells nobody whether the account exists (OWASP ASVS 6.3.8).

An unknown name, a wrong password, an account that is not active, one that is locked and a password
that is longer than any: the answers are the same to the letter, their medians lie within five
percent, and by the Mann-Whitney test the times come from one distribution (p > 0.01).

The kinds take turns, so that all share the mood of the machine. Each log-in is made alone, as an
attacker would measure. What a busy machine makes look different is measured again, with more.
"""

import os
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio
from release_manager.identity.v1 import identity_pb2

from shared.setting_values import driver_url
from tests.rpc.catalog.conftest import refusal
from tests.rpc.catalog.identities import SECOND, Identities
from tests.support.database import Databases
from tests.support.platform import Platform, running_platform
from tests.support.ranks import mann_whitney_p

LOGINS = int(os.environ.get("LOGINS_OF_A_KIND", "20"))
COST = int(os.environ.get("LOGINS_BCRYPT_ROUNDS", "9"))
# Of twenty log-ins at a low cost the median says less than of two hundred at the real one.
CLOSE = 0.05 if LOGINS >= 200 else 0.15
LEAST_P = 0.01
# Each time twice as many: what is chance becomes smaller, and what is none does not.
TWICE, TIMES = 2, 4
ROUNDS_WARM = 2

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.timeout(60 + 40 * LOGINS)]

Times = Mapping[str, list[float]]


@dataclass
class Strangers:
    """The running product, a log-in of each kind, and who may lift or set locks."""

    platform: Platform
    owner: Any
    kinds: Mapping[str, identity_pb2.LoginRequest]
    locked: str
    answers: set[str]

    async def seconds(self, kind: str) -> float:
        """Try one log-in; return how long the refusal took."""
        began = time.perf_counter()
        error = await refusal(self.platform.identity.Login(self.kinds[kind]))
        took = time.perf_counter() - began
        self.answers.add(f"{error!r} {error.facts} {error.fields} {error.retry_after}")
        return took

    async def set_locks(self) -> None:
        """Let all log-ins be compared but those of the account that is locked."""
        await self.owner.execute(
            "UPDATE login_throttles SET failures = 0, delayed_until = NULL, compared_at = '{}',"
            " locked_at = CASE WHEN account = $1 THEN now() END,"
            " reported_at = CASE WHEN account = $1 THEN reported_at END",
            f"user:{self.locked}",
        )

    async def timed(self, rounds: int) -> Times:
        """Return the times of so many log-ins of each kind, which take turns."""
        times: dict[str, list[float]] = {kind: [] for kind in self.kinds}
        for number in range(ROUNDS_WARM + rounds):
            order = list(self.kinds)
            turn = number % len(order)
            for kind in order[turn:] + order[:turn]:
                await self.set_locks()
                took = await self.seconds(kind)
                if number >= ROUNDS_WARM:
                    times[kind].append(took)
        return times


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def strangers(databases: Databases) -> AsyncIterator[Strangers]:
    """Make a person for each kind, hashed at the cost at which the product compares."""
    with databases.fresh(seeded=True) as url:
        async with running_platform(url, bcrypt_rounds=COST) as platform:
            identities = Identities(platform)
            known, gone, locked = [await identities.person() for _ in range(3)]
            await identities.call("DeactivateUser", user=gone.id)
            owner = await asyncpg.connect(driver_url(url))
            wrong = "words that nobody has"
            kinds = {
                "wrong password": (known.username, wrong),
                "unknown name": (f"n{uuid4().hex[:12]}", wrong),
                "not active": (gone.username, SECOND),
                "locked": (locked.username, SECOND),
                "too long": (known.username, "x" * 73),
            }
            requests = {
                kind: identity_pb2.LoginRequest(username=name, password=password)
                for kind, (name, password) in kinds.items()
            }
            made = Strangers(platform, owner, requests, locked.id, set())
            # So that there is a row to lock.
            await identities.refused("Login", None, username=locked.username, password=wrong)
            yield made
            await owner.close()


def differences(times: Times) -> set[str]:
    """Return the kinds whose times differ from those of all others."""
    found = set()
    for kind, own in times.items():
        others = [took for other, list_ in times.items() if other != kind for took in list_]
        apart, p = abs(median(own) / median(others) - 1), mann_whitney_p(own, others)
        if apart > CLOSE or p <= LEAST_P:
            found.add(f"{kind}: {apart:.1%} apart, p = {p:.4f}")
    return found


def kinds_of(found: set[str]) -> set[str]:
    return {one.partition(":")[0] for one in found}


async def test_whoever_it_is_the_answer_is_the_same_and_takes_as_long(
    strangers: Strangers,
) -> None:
    found = [differences(await strangers.timed(LOGINS))]
    # What differs does so each time; by chance, on a busy machine, somebody does so now and then.
    while len(found) < TIMES and set.intersection(*map(kinds_of, found)):
        found.append(differences(await strangers.timed(TWICE ** len(found) * LOGINS)))
    assert not set.intersection(*map(kinds_of, found)), found
    assert len(strangers.answers) == 1, strangers.answers


async def test_locked_is_locked_and_the_others_are_compared(strangers: Strangers) -> None:
    """The kinds are what they are called; else their answers would prove nothing."""
    await strangers.set_locks()
    counted = "SELECT sum(failures), sum(refused) FROM login_throttles WHERE source = ''"
    for kind in strangers.kinds:
        failures, refused = await strangers.owner.fetchrow(counted)
        await strangers.seconds(kind)
        now = await strangers.owner.fetchrow(counted)
        expected = (failures, refused + 1) if kind == "locked" else (failures + 1, refused)
        assert tuple(now) == expected, kind


async def test_a_difference_of_a_fifth_is_noticed() -> None:
    even = {"a": [1.0 + n / 100 for n in range(20)], "b": [1.005 + n / 100 for n in range(20)]}
    assert not differences(even)
    assert kinds_of(differences({"a": even["a"], "b": [1.2 * took for took in even["b"]]})) == {
        *"ab"
    }
