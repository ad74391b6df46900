"""A flood of log-ins cannot starve the service (OWASP ASVS 15.2.2).

At most one password is hashed at a time for every two cores, at most twenty wait, whoever comes
then is told at once when to come again, and hashing gives way to all other work. What the flood
costs other calls is measured by `python -m benchmarks logins`, for thirty seconds in processes of
their own.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import pytest_asyncio

from shared.errors import LoginBusy, LoginRefused
from shared.identity import passwords
from shared.identity.passwords import Passwords
from shared.rpc.status import code_of
from tests.rpc.catalog.conftest import refusal
from tests.rpc.catalog.identities import Identities
from tests.support.database import Databases
from tests.support.platform import Platform, running_platform

pytestmark = pytest.mark.asyncio(loop_scope="session")

LOGINS = 100
EACH_SECOND = 50
COST = 10
# As on a machine of two cores, so that on any so many log-ins are more than can be compared.
CORES = 2
WORKERS = CORES // 2
LONGEST_QUEUE = 20
SECONDS_TO_REFUSE = 1.0


@dataclass
class Hashing:
    """What was seen of the hashing: how many were asked at once."""

    now: int = 0
    most: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def one(self) -> Iterator[None]:
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            yield
        finally:
            with self.lock:
                self.now -= 1


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def platform(databases: Databases) -> AsyncIterator[Platform]:
    """Run the product at a cost that makes a queue."""
    with databases.fresh(seeded=True) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "cpu_count", lambda: CORES)
        async with running_platform(url, bcrypt_rounds=COST) as running:
            patch.undo()
            yield running


@pytest.fixture
def hashing(monkeypatch: pytest.MonkeyPatch) -> Hashing:
    """Watch every question to a process that hashes without changing it."""
    seen, answered = Hashing(), Passwords._answered  # noqa: SLF001  (the one place of all)

    def watched(asked: Passwords, question: dict[str, Any]) -> dict[str, Any]:
        with seen.one():
            return answered(asked, question)

    monkeypatch.setattr(Passwords, "_answered", watched)
    return seen


async def test_few_are_hashed_some_wait_and_the_others_are_told_at_once(
    platform: Platform, hashing: Hashing
) -> None:
    identities = Identities(platform)
    told: list[float] = []

    async def log_in(number: int) -> type:
        began = time.perf_counter()
        error = await identities.refused(
            "Login", None, username=f"nobody{number}", password="whatever it is"
        )
        if isinstance(error, LoginBusy):
            told.append(time.perf_counter() - began)
            assert code_of(error) is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error.retry_after == passwords.RETRY_AFTER
        return type(error)

    tasks = []
    for number in range(LOGINS):
        tasks.append(asyncio.create_task(log_in(number)))
        await asyncio.sleep(1 / EACH_SECOND)
    answers = await asyncio.gather(*tasks)
    assert set(answers) == {LoginBusy, LoginRefused}
    assert hashing.most == WORKERS
    assert sorted(told)[len(told) // 2] < SECONDS_TO_REFUSE


async def test_the_queue_has_twenty_places_and_one_for_each_who_hashes(
    platform: Platform, hashing: Hashing
) -> None:
    """All at the same moment: at least as many are compared as have room, and not all."""
    calls = [
        refusal(Identities(platform).call("Login", None, username=f"n{n}", password="whatever"))
        for n in range(LOGINS)
    ]
    answers = await asyncio.gather(*calls)
    compared = sum(isinstance(answer, LoginRefused) for answer in answers)
    assert WORKERS + LONGEST_QUEUE <= compared < LOGINS
    assert hashing.most == WORKERS
    assert passwords.LONGEST_QUEUE == LONGEST_QUEUE
