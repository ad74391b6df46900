"""Whoever may no longer call is cut off within five seconds (OWASP ASVS 7.4.2, 7.4.3, 8.3.2).

A person is deactivated, loses the role, or gets another password, while twenty clients of that
person are busy: loops of calls to every service, streams that follow the ledger, and an export
whose reader takes its time. Nothing succeeds more than five seconds after the change was answered.
The export's end is the moment at which the service gave it up, since what had been sent before may
still be on its way to a slow reader.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from google.protobuf.struct_pb2 import Struct
from release_manager.audit.v1 import audit_pb2
from release_manager.catalog.v1 import catalog_pb2
from release_manager.common.v1 import access_pb2
from release_manager.deployment.v1 import deployment_pb2
from release_manager.identity.v1 import identity_pb2

from shared.rpc.status import from_rpc_error
from shared.setting_values import driver_url
from tests.rpc.catalog.identities import SECOND, THIRD, Identities
from tests.support.database import Databases
from tests.support.platform import Platform, bearer, running_platform
from tests.support.raw_calls import Metadata
from tests.support.things_made import event

pytestmark = pytest.mark.asyncio(loop_scope="session")

WITHIN_S = 5.0
BEFORE_S, START_S = 1.0, 30.0
LOOPS, FOLLOWERS, EXPORTS = 17, 2, 1
CLIENTS = 20
PAUSE_S = 0.4
# More than fits between the service and a reader who does not read.
ENTRIES, ENTRY_BYTES, BATCH = 1_600, 20_000, 40

Change = Callable[[Identities, Any, Any], Awaitable[object]]
# Each takes a person and another session of theirs.
CHANGES: Mapping[str, tuple[Change, str]] = {
    "deactivated": (
        lambda people, user, _other: people.call("DeactivateUser", user=user.id),
        "TOKEN_REJECTED",
    ),
    "another role": (
        lambda people, user, _other: people.call(
            "UpdateUser", user=user.id, role=access_pb2.ROLE_VIEWER, mask=["role"]
        ),
        "ROLE_REQUIRED",
    ),
    "password set by an admin": (
        lambda people, user, _other: people.call("ResetPassword", user=user.id, password=THIRD),
        "TOKEN_REJECTED",
    ),
    "password changed elsewhere": (
        lambda people, _user, other: people.call(
            "ChangePassword", other, current_password=SECOND, new_password=THIRD
        ),
        "TOKEN_REJECTED",
    ),
}


@dataclass
class Client:
    """What one client of the person has seen; moments are of the monotonic clock."""

    kind: str
    successes: int = 0
    last_success: float = 0.0
    reason: str = ""

    def succeeded(self) -> None:
        self.successes += 1
        self.last_success = time.monotonic()


@dataclass
class Person:
    """A person at work, and the moment at which whoever made the change was told so."""

    user: Any
    metadata: Metadata
    clients: list[Client] = field(default_factory=list)
    changed_at: float = 0.0
    export_seconds: float = 0.0


def calls_of(platform: Platform) -> Sequence[Callable[[Metadata], Awaitable[object]]]:
    """Return calls of all three services that change nothing; the last are open to viewers."""
    new = catalog_pb2.CreateReleaseRequest(service="gateway", version="77.0", validate_only=True)
    first = deployment_pb2.ListDeploymentsRequest(page_size=1)
    return (
        lambda who: platform.audit.ListAuditLogs(
            audit_pb2.ListAuditLogsRequest(page_size=1), metadata=who
        ),
        lambda who: platform.catalog.CreateRelease(new, metadata=who),
        lambda who: platform.deployment.ListDeployments(first, metadata=who),
        lambda who: platform.identity.WhoAmI(identity_pb2.WhoAmIRequest(), metadata=who),
    )


# They say nothing about a role that was lost.
OF_VIEWERS = 2


async def call_again_and_again(person: Person, call: Any, until: asyncio.Event) -> None:
    client = Client("loop")
    person.clients.append(client)
    while not until.is_set():
        try:
            await call(person.metadata)
        except grpc.aio.AioRpcError as failure:
            client.reason = reason_of(failure)
        else:
            client.succeeded()
        await asyncio.sleep(PAUSE_S)


async def follow(platform: Platform, person: Person) -> None:
    client = Client("follow")
    person.clients.append(client)
    request = audit_pb2.FollowAuditLogsRequest(
        filter=audit_pb2.AuditLogFilter(category=audit_pb2.AUDIT_CATEGORY_ALL)
    )
    stream = platform.audit.FollowAuditLogs(request, metadata=person.metadata)
    try:
        while await stream.read():
            client.succeeded()
    except grpc.aio.AioRpcError as failure:
        client.reason = reason_of(failure)


async def export_slowly(platform: Platform, person: Person, until: asyncio.Event) -> None:
    """Read the first part of an export, stop reading, and take the rest at the end."""
    client = Client("export")
    person.clients.append(client)
    request = audit_pb2.ExportAuditLogsRequest(format=audit_pb2.EXPORT_FORMAT_NDJSON)
    stream = platform.audit.ExportAuditLogs(request, metadata=person.metadata)
    try:
        assert await stream.read()
        client.succeeded()
        await until.wait()
        while answer := await stream.read():
            assert not answer.manifest, "the export came to its good end"
    except grpc.aio.AioRpcError as failure:
        client.reason = reason_of(failure)


def reason_of(failure: grpc.aio.AioRpcError) -> str:
    error = from_rpc_error(failure)
    return error.reason if error is not None else failure.code().name


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def platform(databases: Databases) -> AsyncIterator[Platform]:
    """Run the product with a ledger that takes a while to export."""
    with databases.fresh(seeded=True) as url:
        # Whoever makes the change is told at once, so that the seconds begin when it is made.
        async with running_platform(url, audit_wait_milliseconds=250) as running:
            writer = await running.program("viewer", "audit.write", "on_behalf_of")
            long = Struct()
            long.update({"note": "x" * ENTRY_BYTES})
            for _ in range(ENTRIES // BATCH):
                batch = [event() for _ in range(BATCH)]
                for one in batch:
                    one.details.CopyFrom(long)
                request = audit_pb2.LogActionsRequest(events=batch)
                await running.audit.LogActions(request, metadata=writer)
            yield running


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def people(platform: Platform) -> Mapping[str, Person]:
    """Let somebody work for each change, make all changes, and see who is still served."""
    made = await asyncio.gather(*(worked_through(platform, change) for change in CHANGES))
    return dict(zip(CHANGES, made, strict=True))


async def worked_through(platform: Platform, change: str) -> Person:
    identities = Identities(platform)
    user = await identities.person(role=access_pb2.ROLE_LEAD)
    session, other = [await identities.log_in(user.username) for _ in range(2)]
    person, over = Person(user, bearer(session.access_token)), asyncio.Event()
    calls = calls_of(platform)
    if change == "another role":
        calls = calls[:-OF_VIEWERS]
    working = [
        *(call_again_and_again(person, calls[n % len(calls)], over) for n in range(LOOPS)),
        *(follow(platform, person) for _ in range(FOLLOWERS)),
        *(export_slowly(platform, person, over) for _ in range(EXPORTS)),
    ]
    tasks = [asyncio.create_task(work) for work in working]
    for _ in range(int(START_S / PAUSE_S)):
        if sum(client.successes > 0 for client in person.clients) == CLIENTS:
            break
        await asyncio.sleep(PAUSE_S)
    assert all(client.successes for client in person.clients), person.clients
    await asyncio.sleep(BEFORE_S)
    await CHANGES[change][0](identities, user, other)
    person.changed_at, changed_at = time.monotonic(), datetime.now(UTC)
    await asyncio.sleep(WITHIN_S + BEFORE_S)
    over.set()
    await asyncio.gather(*tasks)
    ended = await owner_says(
        platform,
        "SELECT occurred_at FROM audit_logs WHERE action = 'export_done' AND user_id = $1",
        user.id,
    )
    person.export_seconds = (ended - changed_at).total_seconds()
    return person


async def owner_says(platform: Platform, query: str, *values: object) -> Any:
    connection = await asyncpg.connect(driver_url(platform.database_url))
    try:
        return await connection.fetchval(query, *values)
    finally:
        await connection.close()


@pytest.mark.parametrize("change", CHANGES)
async def test_nothing_succeeds_five_seconds_after(
    people: Mapping[str, Person], change: str
) -> None:
    person = people[change]
    late = {
        client.kind: client.last_success - person.changed_at
        for client in person.clients
        if client.last_success - person.changed_at > WITHIN_S
    }
    assert late == {}
    assert len(person.clients) == CLIENTS


@pytest.mark.parametrize("change", CHANGES)
async def test_every_client_is_told_the_same_reason(
    people: Mapping[str, Person], change: str
) -> None:
    told = {(client.kind, client.reason) for client in people[change].clients}
    expected = CHANGES[change][1]
    assert told == {(kind, expected) for kind in ("loop", "follow", "export")}


@pytest.mark.parametrize("change", CHANGES)
async def test_an_open_export_is_given_up_by_the_service(
    platform: Platform, people: Mapping[str, Person], change: str
) -> None:
    person = people[change]
    assert person.export_seconds <= WITHIN_S
    ended = await owner_says(
        platform,
        "SELECT details::text FROM audit_logs WHERE action = 'export_done' AND user_id = $1",
        person.user.id,
    )
    assert json.loads(ended)["reason"] == CHANGES[change][1]
