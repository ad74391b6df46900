"""A denied call of catalog and deployment changes nothing and is one entry of the ledger."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from release_manager.identity.v1 import identity_pb2

from shared.identity.opaque_tokens import new_refresh_token
from shared.outbox import denials
from shared.setting_values import driver_url
from tests.support.database import Databases
from tests.support.forged_tokens import MINUTE, Forger
from tests.support.platform import (
    CATALOG,
    DEPLOYMENT,
    IDENTITY,
    Platform,
    bearer,
    running_platform,
)
from tests.support.polling import eventually
from tests.support.programs import add_person, add_session, execute
from tests.support.raw_calls import Answer, Metadata
from tests.support.rows import changed, fingerprints

pytestmark = pytest.mark.asyncio(loop_scope="session")

FLOOD = 2_000
ANSWERED_S = 20.0
AT_ONCE = 32
# What was called, by whom, why it was denied, and who that was as the entry says.
CASES = {
    "nobody to catalog": (CATALOG, "CreateTeam", "nobody", "CREDENTIALS_MISSING", "unknown"),
    "nobody to identity": (IDENTITY, "CreateUser", "nobody", "CREDENTIALS_MISSING", "unknown"),
    "nobody to deployment": (
        DEPLOYMENT,
        "CreateDeployment",
        "nobody",
        "CREDENTIALS_MISSING",
        "unknown",
    ),
    "forged token": (CATALOG, "ListTeams", "forged", "TOKEN_REJECTED", "unknown"),
    "expired token": (CATALOG, "ListServices", "expired", "TOKEN_REJECTED", "unknown"),
    "deactivated": (CATALOG, "ListReleases", "deactivated", "TOKEN_REJECTED", "unknown"),
    "revoked session": (CATALOG, "ListRunbooks", "revoked", "TOKEN_REJECTED", "unknown"),
    "revoked API token": (DEPLOYMENT, "ListRollbacks", "gone", "TOKEN_REJECTED", "unknown"),
    "deactivated at deployment": (
        DEPLOYMENT,
        "ListDeployments",
        "deactivated",
        "TOKEN_REJECTED",
        "unknown",
    ),
    "role too low": (CATALOG, "CreateTeam", "viewer1", "ROLE_REQUIRED", "viewer1"),
    "role too low for people": (IDENTITY, "CreateUser", "lead1", "ROLE_REQUIRED", "lead1"),
    "role too low to deploy": (
        DEPLOYMENT,
        "PromoteRelease",
        "viewer1",
        "ROLE_REQUIRED",
        "viewer1",
    ),
    "no scope": (DEPLOYMENT, "CreateDeployment", "program", "SCOPE_REQUIRED", "test-admin"),
    "no scope to act for others": (
        CATALOG,
        "GetTeam",
        "for somebody",
        "SCOPE_REQUIRED",
        "unknown",
    ),
    "first password": (CATALOG, "GetService", "dev2", "PASSWORD_CHANGE_REQUIRED", "dev2"),
    "not by a program": (IDENTITY, "Logout", "program", "NOT_PERMITTED", "test-admin"),
    "refresh token": (IDENTITY, "Refresh", "nobody", "TOKEN_REJECTED", "unknown"),
}
REQUESTS: Mapping[str, Message] = {
    "Refresh": identity_pb2.RefreshRequest(refresh_token=new_refresh_token().text)
}


@pytest.fixture(autouse=True)
def patiently(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a service that stops on a slow machine give up none of its counts."""
    monkeypatch.setattr(denials, "LAST_WRITE_S", 60.0)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def callers(platform: Platform) -> Mapping[str, Metadata]:
    """Give the metadata of every kind of caller."""
    url, keys = platform.database_url, platform.keys
    await add_person(url, "former", "admin", active=False)
    former, admin, revoked = (
        (Forger(keys, user_id, session_id), session_id)
        for session_id, user_id, _refresh in [
            await add_session(url, name) for name in ("former", "admin", "lead1")
        ]
    )
    end = "UPDATE sessions SET revoked_at = now(), revoked_because = 'test' WHERE id = $1"
    await execute(url, end, revoked[1])
    people = {name: await platform.person(name) for name in ("viewer1", "lead1", "dev2")}
    await execute(
        url, "UPDATE users SET password_change_required = true WHERE username = $1", "dev2"
    )
    program = await platform.program("admin")
    gone = await platform.program("viewer")
    token = platform.programs["test-viewer"].token_id
    await execute(url, "UPDATE api_tokens SET revoked_at = now() WHERE id = $1", token)
    await asyncio.sleep(2.1)  # who somebody is, is known for two seconds
    return {
        "nobody": (),
        **people,
        "forged": bearer(admin[0].signed_by_another()),
        "expired": bearer(admin[0].aged(60 * MINUTE)),
        "deactivated": bearer(former[0].token()),
        "revoked": bearer(revoked[0].token()),
        "program": program,
        "gone": gone,
        "for somebody": (*program, ("x-on-behalf-of", "lead1")),
    }


async def entries(url: str, **wanted: str) -> list[dict[str, Any]]:
    """Return the entries of the ledger about denied calls, with their details, oldest first."""
    connection = await asyncpg.connect(driver_url(url))
    try:
        rows = await connection.fetch(
            "SELECT a.*, details::text AS said FROM audit_logs a"
            " WHERE action = 'call_denied' ORDER BY leaf_index"
        )
    finally:
        await connection.close()
    found = [dict(row) | {"details": json.loads(row["said"])} for row in rows]
    return [
        one
        for one in found
        if all(str(one.get(name, one["details"].get(name))) == it for name, it in wanted.items())
    ]


async def soon(url: str, **wanted: str) -> list[dict[str, Any]]:
    """Wait for the first such entry; then give a second one the time to come too."""
    await eventually(lambda: entries(url, **wanted))
    await asyncio.sleep(0.3)
    return await entries(url, **wanted)


async def denied(platform: Platform, name: str, metadata: Metadata) -> Answer:
    """Call a method that denies it, by its full name."""
    request = REQUESTS.get(name.rpartition("/")[2], b"")
    answer = await platform.ask(name, request, metadata)
    assert answer.code in {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
    }, answer
    return answer


@pytest.mark.parametrize("case", CASES)
async def test_a_denied_call_changes_nothing_and_is_one_entry(
    platform: Platform, callers: Mapping[str, Metadata], case: str
) -> None:
    service, method, caller, reason, who = CASES[case]
    name = f"/{service}/{method}"
    before = await fingerprints(platform.database_url)
    metadata = (*callers[caller], ("x-request-id", case.replace(" ", "-")))
    answer = await denied(platform, name, metadata)
    assert answer.reason == reason
    assert changed(before, await fingerprints(platform.database_url)) == {}
    [entry] = await soon(platform.database_url, resource_id=name, reason=reason, caller=who)
    producer = "deployment" if service == DEPLOYMENT else "catalog"
    assert (entry["producer"], entry["category"]) == (producer, "security")
    assert entry["resource_type"] == "rpc"
    assert (entry["user_id"] is None) == (who == "unknown")
    assert ("role" in entry["details"]) == (who != "unknown")
    assert str(entry["ip_address"]) == "127.0.0.1"
    assert "grpc" in entry["user_agent"]
    assert entry["details"]["count"] == 1
    assert entry["details"]["request_id"] == case.replace(" ", "-")
    assert platform.errors == []


async def test_a_refused_log_in_is_no_denied_call_besides(platform: Platform) -> None:
    login = identity_pb2.LoginRequest(username="lead1", password="not the password")
    answer = await platform.ask(f"/{IDENTITY}/Login", login)
    assert answer.reason == "LOGIN_REFUSED"
    await asyncio.sleep(0.5)
    assert await entries(platform.database_url, resource_id=f"/{IDENTITY}/Login") == []


@pytest.mark.timeout(300)
async def test_a_flood_makes_few_entries_and_every_call_is_counted(databases: Databases) -> None:
    started = time.monotonic()
    with databases.fresh(seeded=True) as url:
        async with running_platform(url) as platform:
            viewer = await platform.person("viewer1")
            name = f"/{CATALOG}/CreateTeam"
            places = asyncio.Semaphore(AT_ONCE)

            async def one(number: int) -> None:
                async with places:
                    await denied(platform, name, viewer if number % 2 else ())

            await asyncio.gather(*(one(number) for number in range(FLOOD)))
            found = await soon(url, caller="viewer1")
            assert len(found) <= 2 + minutes_since(started)
        # What was held back is in the outbox when the service has stopped.
        counts = await in_outbox(url)
    assert len(counts) <= 2 * (3 + minutes_since(started))
    assert sum(count for caller, count in counts if caller == "viewer1") == FLOOD / 2
    assert sum(count for caller, count in counts if caller == "unknown") == FLOOD / 2


def minutes_since(started: float) -> int:
    """Return how many minutes are over; each lets one more entry be written about each caller."""
    return int((time.monotonic() - started) // 60)


async def in_outbox(url: str) -> list[tuple[str, int]]:
    """Return caller and count of every event about denied calls, sent or not."""
    connection = await asyncpg.connect(driver_url(url))
    try:
        rows = await connection.fetch(
            "SELECT event->'details'->>'caller', (event->'details'->>'count')::integer"
            " FROM outbox WHERE event->>'action' = 'call_denied'"
        )
    finally:
        await connection.close()
    return [tuple(row) for row in rows]


@asynccontextmanager
async def away(databases: Databases, url: str) -> AsyncIterator[None]:
    """Cut every connection to a database, and let nobody connect until the block is left."""
    name = url.rpartition("/")[2].partition("?")[0]
    connection = await asyncpg.connect(driver_url(databases.url("postgres")))
    try:
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", name
        )
        yield
    finally:
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')
        await connection.close()


async def test_while_the_database_is_away_the_denied_are_answered_and_counted(
    databases: Databases,
) -> None:
    with databases.fresh(seeded=True) as url:
        async with running_platform(url) as platform:
            session = await add_session(url, "admin")
            forger = Forger(platform.keys, session[1], session[0])
            async with away(databases, url):
                for service, method in ((CATALOG, "CreateTeam"), (DEPLOYMENT, "ListDeployments")):
                    for metadata in ((), bearer(forger.signed_by_another())):
                        started = time.monotonic()
                        for _ in range(50):
                            await denied(platform, f"/{service}/{method}", metadata)
                        assert time.monotonic() - started < ANSWERED_S
            await eventually(lambda: in_outbox(url), 20)
        assert sum(count for _, count in await in_outbox(url)) == 4 * 50


async def test_while_the_outbox_takes_nothing_the_denied_are_answered_and_counted(
    databases: Databases,
) -> None:
    with databases.fresh(seeded=True) as url:
        async with running_platform(url) as platform:
            viewer = await platform.person("viewer1")
            owner = await asyncpg.connect(driver_url(url))
            async with owner.transaction():
                await owner.execute("LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE")
                started = time.monotonic()
                for _ in range(50):
                    for name in (f"/{CATALOG}/CreateTeam", f"/{DEPLOYMENT}/CreateDeployment"):
                        answer = await denied(platform, name, viewer)
                        assert answer.code is grpc.StatusCode.PERMISSION_DENIED
                assert time.monotonic() - started < ANSWERED_S
            await owner.close()
        counts = await in_outbox(url)
        assert sum(count for _, count in counts) == 2 * 50
        assert {caller for caller, _ in counts} == {"viewer1"}
