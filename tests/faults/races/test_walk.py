"""A random walk of many clients among a few hot deployments, while services are killed.

Every acknowledged change is there once, in one order that fits what everybody saw, and nothing
stands in the ledger that no answer tells of. `WALK_SECONDS` makes it longer, `WALK_SEED` repeats
the choices of a run.
"""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import asyncpg
import grpc
import pytest
from release_manager.deployment.v1 import deployment_pb2_grpc
from release_manager.identity.v1 import identity_pb2, identity_pb2_grpc

from services.one_machine_child import STEADY_SECONDS
from shared.ids import new_id
from tests.faults.races import linear
from tests.faults.races.linear import Op
from tests.faults.races.walkers import Metadata, Walk
from tests.properties.lives import LEGAL
from tests.support.machine import Machine, own_environment
from tests.support.polling import eventually

SECONDS = float(os.environ.get("WALK_SECONDS", "8"))
SEED = int(os.environ.get("WALK_SEED", "0")) or Random().randrange(1, 2**32)
CLIENTS, PAIRS, RELEASES = 24, 20, 6
WALKERS = ("dev1", "lead1", "admin")
# So many answers, ten for each second that was asked for.
ENOUGH = 10 * SECONDS
# After these each of the two has lived for long enough to be started again at once.
QUICK_KILLS = 4
DELIVERED = "SELECT count(*) = 0 FROM outbox WHERE sent_at IS NULL"
pytestmark = pytest.mark.timeout(SECONDS + 300)


@asynccontextmanager
async def walk() -> AsyncIterator[tuple[Machine, Walk, asyncpg.Connection]]:
    """Bring everything up, with services whose releases may go to dev."""
    with own_environment() as environment:
        environment["BCRYPT_ROUNDS"] = "4"
        # So that nobody has to log in again on a long walk.
        environment["ACCESS_TOKEN_SECONDS"] = "3600"
        with Machine(environment) as machine:
            machine.wait_for("\nready\n")
            database = await asyncpg.connect(machine.database_url())
            apps = [await added(database, number) for number in range(PAIRS)]
            async with (
                grpc.aio.insecure_channel(environment["CATALOG_ADDRESS"]) as catalog,
                grpc.aio.insecure_channel(environment["DEPLOYMENT_ADDRESS"]) as deployment,
            ):
                identity = identity_pb2_grpc.IdentityServiceStub(catalog)
                people = [await logged_in(identity, who) for who in WALKERS]
                stub = deployment_pb2_grpc.DeploymentServiceStub(deployment)
                yield machine, Walk(stub, people, apps, RELEASES, Random(SEED)), database
            await database.close()


async def added(database: asyncpg.Connection, number: int) -> str:
    """Add a service with published releases; return its name."""
    service_id, name = new_id(), f"hot{number}"
    await database.execute(
        "INSERT INTO services (id, team_id, owner_id, name)"
        " SELECT $1, t.id, u.id, $2 FROM teams t, users u WHERE u.username = 'lead1' LIMIT 1",
        *(service_id, name),
    )
    for version in range(RELEASES):
        await database.execute(
            "INSERT INTO releases (id, service_id, created_by, authors, version, status,"
            " commit_sha, artifact_digest, published_at) SELECT $1, $2, u.id, ARRAY[u.id], $3,"
            " 'published', 'c0ffee', $4, now() FROM users u WHERE u.username = 'dev2'",
            *(new_id(), service_id, str(version), f"sha256:{name}{version}"),
        )
    return name


async def logged_in(identity: Any, who: str) -> Metadata:
    """Return the metadata of a seeded user."""
    answer = await identity.Login(identity_pb2.LoginRequest(username=who, password="password123"))
    return (("authorization", f"Bearer {answer.session.access_token}"),)


async def test_a_walk_among_kills_has_one_order() -> None:
    print(f"WALK_SEED={SEED} WALK_SECONDS={SECONDS:.0f}")  # noqa: T201  (to repeat it)
    async with walk() as (machine, walking, database):
        kills = Counter[str]()
        work = [walking.client() for _ in range(CLIENTS)]
        await until_ended(machine, walking, work, kills)
        try:
            wrong = await checked(walking, database)
        finally:
            outage = f"{walking.longest_outage:.1f} s"
            print(dict(kills), dict(walking.done), outage)  # noqa: T201  (what happened)
        assert wrong == []
        assert answered(walking) > ENOUGH
        assert min(kills["deployment"], kills["audit"]) > 0
        assert walking.done["UNAVAILABLE"], "no kill was noticed"


def answered(walking: Walk) -> int:
    """Return how many calls about a deployment were answered."""
    return sum(map(len, walking.ops.values()))


async def until_ended(
    machine: Machine, walking: Walk, work: list[Coroutine[Any, Any, None]], kills: Counter[str]
) -> None:
    """Let everybody walk while services die and come back; then ask for one last answer each."""
    loop, chance = asyncio.get_running_loop(), Random(SEED + 1)
    async with asyncio.TaskGroup() as group:
        for one in work:
            group.create_task(one)
        ends = loop.time() + SECONDS
        turn = 0
        while loop.time() < ends or not (kills["deployment"] and kills["audit"]):
            pause = chance.uniform(0.5, 3.0) + (0 if turn < QUICK_KILLS else STEADY_SECONDS / 2)
            await asyncio.sleep(min(pause, max(ends - loop.time(), 0.5)))
            victim = ("deployment", "audit")[turn % 2]
            turn += 1
            if victim not in (alive := machine.children()):
                continue
            os.kill(alive[victim], signal.SIGKILL)
            kills[victim] += 1
            # That it goes on is part of the test: so much is answered before the next blow.
            reached = answered(walking) + 20
            while answered(walking) < reached:  # noqa: ASYNC110  (a count)
                await asyncio.sleep(0.02)
        # A busy machine has the time that it needs, as long as the whole test may take.
        while answered(walking) <= ENOUGH:  # noqa: ASYNC110  (a count)
            await asyncio.sleep(0.02)
        walking.ending.set()


async def checked(walking: Walk, database: asyncpg.Connection) -> list[str]:
    """Hold what everybody saw against the tables and the ledger."""
    await eventually(lambda: database.fetchval(DELIVERED), 60)
    rows = await database.fetch(
        "SELECT d.id::text, d.row_version, d.status FROM deployments d"
        " JOIN services s ON s.id = d.service_id WHERE s.name = ANY ($1)",
        list(walking.apps),
    )
    entries = await database.fetch(
        "SELECT a.event_id::text, a.aggregate, a.aggregate_seq, a.action,"
        " a.details -> 'before' ->> 'status' AS before, a.details -> 'after' ->> 'status' AS after"
        " FROM audit_logs a WHERE a.aggregate = ANY ($1) ORDER BY a.aggregate, a.aggregate_seq",
        [f"deployment:{row['id']}" for row in rows],
    )
    wrong = list(unlike(rows, entries, walking.claimed))
    for row in rows:
        status = "DEPLOYMENT_STATUS_" + row["status"].upper().replace("-", "_")
        ops = walking.ops.get(row["id"], [])
        wrong += linear.judged(ops, (row["row_version"], status))
    assert walking.ops.keys() <= {row["id"] for row in rows}
    doubled = await database.fetch(
        "SELECT service_id FROM deployments WHERE status IN ('in-progress', 'paused', 'cancelling')"
        " GROUP BY service_id, environment_id HAVING count(*) > 1"
    )
    return [*wrong, *(f"two hold a slot of {row['service_id']}" for row in doubled)]


def unlike(rows: list[Any], entries: list[Any], claimed: set[str]) -> list[str]:
    """Return where versions, entries and answers tell different things."""
    wrong = []
    told: dict[str, list[Any]] = {f"deployment:{row['id']}": [] for row in rows}
    for entry in entries:
        told[entry["aggregate"]].append(entry)
    for row in rows:
        mine = told[f"deployment:{row['id']}"]
        if [entry["aggregate_seq"] for entry in mine] != list(range(1, row["row_version"] + 1)):
            wrong.append(f"{row['id']}: {row['row_version']} versions, {len(mine)} entries")
        state = None
        for entry in mine:
            before, after = entry["before"], entry["after"]
            if before != state or (
                before is not None and before != after and after not in LEGAL.get(before, ())
            ):
                wrong.append(f"{row['id']}: {state}, then {before} to {after}")
            state = after
        if mine and state != row["status"]:
            wrong.append(f"{row['id']}: {row['status']}, and {state}")
    unasked = [e for e in entries if e["event_id"] not in claimed and e["action"] != "supersede"]
    return wrong + [f"nobody was told of {entry['action']}" for entry in unasked]


SEEN = (
    Op(0, 1, 1, "P", writes=True),
    Op(2, 3, 2, "R", writes=True),
    Op(4, 5, 2, "R", writes=False),
)


@pytest.mark.parametrize(
    ("more", "final", "what"),
    [
        ((), (2, "R"), None),
        ((), (1, "P"), linear.LOST),
        ((Op(2, 3, 2, "R", writes=True),), (2, "R"), linear.DOUBLE),
        ((Op(4, 5, 1, "P", writes=False),), (2, "R"), linear.STALE),
        ((Op(0, 1, 2, "R", writes=False),), (2, "R"), linear.EARLY),
        ((Op(4, 5, 2, "C", writes=False),), (2, "R"), linear.OTHER),
    ],
)
def test_the_checker_finds_what_fits_no_order(
    more: tuple[Op, ...], final: tuple[int, str], what: str | None
) -> None:
    wrong = linear.judged([*SEEN, *more], final)
    assert [one for one in wrong if what and one.startswith(what)] or (what is None and not wrong)


def test_entries_that_nobody_was_told_of_are_found() -> None:
    row = {"id": "d", "row_version": 2, "status": "failed"}
    usual = {"aggregate": "deployment:d", "action": "finish"}
    made = usual | {"event_id": "1", "aggregate_seq": 1, "before": None, "after": "pending"}
    ended = usual | {"event_id": "2", "aggregate_seq": 2, "before": "pending", "after": "failed"}
    assert unlike([row], [made, ended], {"1", "2"}) == []
    assert unlike([row], [made, ended], {"1"})
    assert unlike([row], [made], {"1"})
    assert unlike([row], [made, ended | {"before": "paused"}], {"1", "2"})
    assert unlike([row | {"status": "completed"}], [made, ended], {"1", "2"})
