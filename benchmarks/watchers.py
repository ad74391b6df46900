"""Two thousand watchers of one deployment against one watcher of another, on the same service.

The watchers are streams of a process of its own. A change is made in the database as the service
makes it, so that the moment of the commit is known; measured is until it has reached a stream.
Also: what a stream costs in memory, what two thousand quiet ones cost in processor time, and what
NOTIFY costs transactions that commit side by side.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from statistics import median
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks.crowd import STREAMS_A_CONNECTION
from benchmarks.figures import Figure, Pair, in_turns, percentile
from benchmarks.stage import PROJECT, UNCOMPARED, Audit, Bench, Owner, Running
from shared.clock import system_clock
from shared.identity.opaque_tokens import new_api_token
from shared.ids import new_id
from shared.outbox.announcing import CHANNELS
from shared.setting_values import driver_url

WATCHERS = 2_000
CHANGES = 10
SLOWEST = 0.99
QUIET_S = 10.0
CROWDED, LONELY = "crowded", "lonely"
AT_ONCE = (1, 8)
COMMITS = 400
CHANGE = "UPDATE deployments SET row_version = row_version + 1 WHERE id = $1"
NOTIFY = "SELECT pg_notify($1, $2)"
CHANNEL = CHANNELS["deployment"]


class Streams:
    """The process with the streams."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Take the process."""
        self._process = process

    async def ask(self, **asked: object) -> Any:  # noqa: ANN401  (JSON)
        """Ask it for something; return the answer."""
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("The process has no pipes.")
        stdin.write(json.dumps(asked).encode() + b"\n")
        return json.loads(await stdout.readline())


class Changing:
    """Changes of one deployment, and how long each takes to reach all who watch its service."""

    def __init__(self, owner: Owner, streams: Streams, service: str, deployment: UUID) -> None:
        """Take who changes, who watches, and what."""
        self._owner = owner
        self._streams = streams
        self._service = service
        self._deployment = deployment
        self._made = 0
        self.medians: list[float] = []

    async def slowest(self) -> float:
        """Make some changes, one after the other; return p99 of their delays in milliseconds."""
        delays: list[float] = []
        for _ in range(CHANGES):
            async with self._owner.transaction():
                await self._owner.execute(CHANGE, self._deployment)
                await self._owner.execute(NOTIFY, CHANNEL, str(self._deployment))
            committed = time.monotonic()
            self._made += 1
            answer = await self._streams.ask(service=self._service, changes=self._made)
            delays += [(at - committed) * 1_000 for at in answer["at"]]
        self.medians.append(median(delays))
        return percentile(delays, SLOWEST)


async def run(bench: Bench) -> Sequence[Figure]:
    """Measure; `--entries` says how many watchers."""
    watchers = bench.size(WATCHERS)
    async with bench.audit() as audit, _watched(bench, audit) as service:
        deployments, tokens = await _fill(audit.owner, watchers)
        async with _crowd() as streams:
            await streams.ask(
                address=service.address, tokens=tokens[-1:], service=LONELY, watchers=1
            )
            empty = service.resident_bytes()
            opened = await streams.ask(
                address=service.address, tokens=tokens, service=CROWDED, watchers=watchers
            )
            memory = (service.resident_bytes() - empty) / watchers / 1_024
            many, one = (
                Changing(audit.owner, streams, name, deployments[name])
                for name in (CROWDED, LONELY)
            )
            slowest = await in_turns(many.slowest, one.slowest, bench.rounds)
            used = service.cpu_seconds()
            await asyncio.sleep(QUIET_S)
            used = (service.cpu_seconds() - used) / QUIET_S
        commits = [await _commits(audit, bench.rounds, at_once) for at_once in AT_ONCE]
    facts = {
        "opening_s": opened["seconds"],
        "quiet_processor": used,
    }
    return [
        Figure(f"delivery to {watchers} watchers, p99", "ms", slowest, "ms, one", facts=facts),
        Figure(
            f"delivery to {watchers} watchers, median",
            "ms",
            Pair(many.medians[1:], one.medians[1:]),
            "ms, one",
        ),
        Figure("memory of a watcher", "KiB", Pair([memory])),
        Figure("processor of quiet watchers", "of a core", Pair([used])),
        *(
            Figure(f"transactions with NOTIFY, {at_once} at once", "/s", pair, "/s without")
            for at_once, pair in zip(AT_ONCE, commits, strict=True)
        ),
    ]


async def _commits(audit: Audit, rounds: int, at_once: int) -> Pair:
    """Return transactions a second with NOTIFY and without, on rows of their own."""
    rows = await audit.owner.fetch("SELECT id FROM deployments LIMIT $1", at_once)
    pool = await asyncpg.create_pool(
        driver_url(audit.database_url), min_size=at_once, max_size=at_once
    )
    try:

        async def work(deployment: UUID, *, notify: bool) -> None:
            async with pool.acquire() as connection:
                for _ in range(COMMITS // at_once):
                    async with connection.transaction():
                        await connection.execute(CHANGE, deployment)
                        words = (CHANNEL if notify else "", str(deployment))
                        await connection.execute(NOTIFY if notify else "SELECT $1 || $2", *words)

        async def measured(*, notify: bool) -> float:
            began = time.perf_counter()
            await asyncio.gather(*(work(row["id"], notify=notify) for row in rows))
            return COMMITS / (time.perf_counter() - began)

        return await in_turns(lambda: measured(notify=True), lambda: measured(notify=False), rounds)
    finally:
        await pool.close()


def _watched(bench: Bench, audit: Audit) -> AbstractAsyncContextManager[Running]:
    """Provide the deployment service that is measured."""
    # Watchers may have half of them.
    settings = UNCOMPARED | {"MAX_CONCURRENT_CALLS": "10000"}
    return bench.beside(audit, "services.deployment", "DEPLOYMENT_ADDRESS", settings)


@asynccontextmanager
async def _crowd() -> AsyncIterator[Streams]:
    """Provide the process with the streams; it ends with its input."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.crowd"),
        cwd=PROJECT,
        env=os.environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=2**24,
    )
    try:
        yield Streams(process)
    finally:
        process.terminate()
        await process.wait()


async def _fill(owner: Owner, watchers: int) -> tuple[Mapping[str, UUID], Sequence[str]]:
    """Add two services with a deployment that waits, and who watches; return ids and tokens."""
    ids = {name: new_id() for name in ("team", "environment", CROWDED, LONELY)}
    deployments: dict[str, UUID] = {}
    person = await owner.fetchval("SELECT id FROM users WHERE username = 'admin'")
    async with owner.transaction():
        await owner.execute("INSERT INTO teams (id, name) VALUES ($1, 'crowd')", ids["team"])
        await owner.execute(
            "INSERT INTO environments (id, name, environment_type, promotion_order)"
            " VALUES ($1, 'dev', 'dev', 1)",
            ids["environment"],
        )
        for name in (CROWDED, LONELY):
            await owner.execute(
                "INSERT INTO services (id, team_id, owner_id, name) VALUES ($1, $2, $3, $4)",
                *(ids[name], ids["team"], person, name),
            )
            for number in range(max(AT_ONCE)):
                deployments[name] = await _add_deployment(
                    owner, ids[name], ids["environment"], person, f"1.0.{number}"
                )
        needed = watchers // STREAMS_A_CONNECTION + 2
        tokens = [await _add_watcher(owner, person, number) for number in range(needed)]
    return deployments, tokens


async def _add_deployment(
    owner: Owner, service: UUID, environment: UUID, person: UUID, version: str
) -> UUID:
    release, deployment = new_id(), new_id()
    await owner.execute(
        "INSERT INTO releases (id, service_id, created_by, authors, version, status, commit_sha,"
        " artifact_digest, published_at) VALUES ($1, $2, $3, $4, $5, 'published', 'c0ffee',"
        " 'sha256:' || $5, now())",
        *(release, service, person, [person], version),
    )
    await owner.execute(
        "INSERT INTO deployments (id, release_id, service_id, environment_id, deployed_by,"
        " requesters, kind, artifact_digest) VALUES ($1, $2, $3, $4, $5, $6, 'deploy',"
        " 'sha256:' || $7)",
        *(deployment, release, service, environment, person, [person], version),
    )
    return deployment


async def _add_watcher(owner: Owner, person: UUID, number: int) -> str:
    """Add a service account that may have a hundred streams; return its token."""
    user, account, token = new_id(), new_id(), new_api_token()
    name = f"watcher-{number}"
    await owner.execute(
        "INSERT INTO users (id, username, email, role, kind)"
        " VALUES ($1, $2, $2 || '@programs.example.com', 'viewer', 'service')",
        *(user, name),
    )
    await owner.execute(
        "INSERT INTO service_accounts (id, user_id, owner_id, name, scopes)"
        " VALUES ($1, $2, $3, $4, '{}')",
        *(account, user, person, name),
    )
    await owner.execute(
        "INSERT INTO api_tokens"
        " (id, service_account_id, description, prefix, token_hash, expires_at)"
        " VALUES ($1, $2, 'for benchmarks', $3, $4, $5)",
        *(new_id(), account, token.prefix, token.digest),
        system_clock() + timedelta(days=1),
    )
    return token.text
