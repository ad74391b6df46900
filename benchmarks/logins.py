"""Other calls while fifty people a second try to log in, against the same calls without.

A check of a password costs a quarter of a second of one core. The calls are those of people at work
on the same catalog service, so many a second, and what counts is the slowest of a hundred. Also:
how many passwords were hashed at the same moment, how many log-ins were refused because too many
were waiting, and how long those took to be told.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
from release_manager.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from release_manager.identity.v1 import identity_pb2, identity_pb2_grpc

from benchmarks.figures import Figure, Promise, in_turns, percentile
from benchmarks.stage import Audit, Bench, Metadata, Running
from shared.identity.hashing import hash_password

LOGINS = 1_500
LOGINS_A_SECOND = 50
CALLS_A_SECOND = 100
ACCOUNTS = 40
ROUNDS = 3
SLOWEST = 0.99
PASSWORD = "words of the benchmark"  # noqa: S105  (it protects nothing)
REAL_COST = 12
LOOK_EVERY_S = 0.02
RUNNING = "R"


@dataclass
class Flood:
    """What came of the log-ins of all rounds."""

    compared: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    most_hashing: int = 0


class Logins:
    """The rounds: the same calls, with and without the log-ins."""

    def __init__(self, catalog: Running, metadata: Metadata, logins: int) -> None:
        """Call the catalog service."""
        self._catalog: Any = catalog_pb2_grpc.CatalogServiceStub(catalog.channel)
        self._identity: Any = identity_pb2_grpc.IdentityServiceStub(catalog.channel)
        self._metadata = metadata
        self._process = catalog.process.pid
        self._seconds = logins / LOGINS_A_SECOND
        self.flood = Flood()

    async def without(self) -> float:
        """Make the calls; return the 99th percentile of their times in milliseconds."""
        took: list[float] = []
        await _paced(CALLS_A_SECOND, self._seconds, lambda number: self._call(number, took))
        return percentile(took, SLOWEST)

    async def during(self) -> float:
        """Make the calls while people log in; return what `without` returns."""
        looking = asyncio.create_task(self._look())
        flood = asyncio.create_task(_paced(LOGINS_A_SECOND, self._seconds, self._log_in))
        try:
            return await self.without()
        finally:
            await flood
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking

    async def _call(self, number: int, took: list[float]) -> None:
        began = time.perf_counter()
        if number % 2:
            request: Any = catalog_pb2.ListTeamsRequest()
            await self._catalog.ListTeams(request, metadata=self._metadata)
        else:
            request = identity_pb2.GetUserRequest(user=_name(number % ACCOUNTS))
            await self._identity.GetUser(request, metadata=self._metadata)
        took.append((time.perf_counter() - began) * 1_000)

    async def _log_in(self, number: int) -> None:
        request = identity_pb2.LoginRequest(username=_name(number % ACCOUNTS), password=PASSWORD)
        began = time.perf_counter()
        try:
            await self._identity.Login(request)
        except grpc.aio.AioRpcError as failure:
            if failure.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                self.flood.refused.append((time.perf_counter() - began) * 1_000)
            else:
                self.flood.others.append(failure.code().name)
        else:
            self.flood.compared.append(time.perf_counter() - began)

    async def _look(self) -> None:
        """Count the descendants of the service that run, which are those that hash."""
        while True:
            running = sum(map(_runs, _descendants(self._process)))
            self.flood.most_hashing = max(self.flood.most_hashing, running)
            await asyncio.sleep(LOOK_EVERY_S)


def _descendants(process: int) -> Iterator[int]:
    for children in Path(f"/proc/{process}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, children.read_text().split()):
                yield child
                yield from _descendants(child)


def _runs(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:  # it has ended meanwhile
        return False
    return state == RUNNING


async def _paced(each_second: int, seconds: float, call: Any) -> None:  # noqa: ANN401  (a coroutine)
    """Begin so many calls a second, however long each takes; the numbers count from 0.

    Each begins at any moment of its share of the second: in step, every second call would meet a
    log-in, and be measured with it.
    """
    chance = random.Random(each_second)  # noqa: S311  (nothing secret)
    async with asyncio.TaskGroup() as calls:
        began = time.perf_counter()
        for number in range(int(each_second * seconds)):
            begin = began + (number + chance.random()) / each_second
            await asyncio.sleep(begin - time.perf_counter())
            calls.create_task(call(number))


def _name(number: int) -> str:
    return f"person{number}"


@asynccontextmanager
async def _catalog(bench: Bench, audit: Audit) -> AsyncIterator[Running]:
    """Provide a catalog service on the ledger's database, with people who can log in."""
    await audit.owner.executemany(
        "INSERT INTO users (id, username, email, role, kind, password_hash)"
        " VALUES (gen_random_uuid(), $1, $1 || '@example.com', 'developer', 'person', $2)",
        [(_name(number), hash_password(PASSWORD, REAL_COST)) for number in range(ACCOUNTS)],
    )
    settings = {
        "AUDIT_TOKEN": audit.metadata[0][1].removeprefix("Bearer "),
        "BCRYPT_ROUNDS": str(REAL_COST),
    }
    async with bench.beside(audit, "services.catalog", "CATALOG_ADDRESS", settings) as catalog:
        yield catalog


async def run(bench: Bench) -> Sequence[Figure]:
    """Measure."""
    async with bench.audit() as audit, _catalog(bench, audit) as catalog:
        logins = Logins(catalog, audit.metadata, bench.size(LOGINS))
        pair = await in_turns(logins.during, logins.without, min(bench.rounds, ROUNDS))
    flood = logins.flood
    facts = {
        "most_hashing_at_once": flood.most_hashing,
        "logged_in": len(flood.compared),
        "slowest_log_in_s": max(flood.compared, default=0),
        "refused": len(flood.refused),
        "slowest_refusal_ms": max(flood.refused, default=0),
        "other_answers": sorted(set(flood.others)),
    }
    return [
        Figure(
            "calls during 50 log-ins/s, p99",
            "ms",
            pair,
            "ms without",
            Promise(ratio_at_most=2),
            facts,
        )
    ]
