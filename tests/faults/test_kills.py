"""SIGKILL in the middle of 200 changes: every change acknowledged has exactly one audit entry."""

import asyncio
import os
import signal
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import asyncpg
import grpc
import pytest
from release_manager.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from release_manager.common.v1 import audit_receipt_pb2
from release_manager.deployment.v1 import deployment_pb2, deployment_pb2_grpc
from release_manager.identity.v1 import identity_pb2, identity_pb2_grpc

from shared.errors import ConcurrentChange, TooManyConnections
from shared.rpc.status import from_rpc_error
from tests.support.machine import Machine, own_environment

CHANGES = 200
CLIENTS = 8
KILL_AFTER = 40
DIGEST = "sha256:" + "ab" * 32
pytestmark = pytest.mark.timeout(300)

# A quarter of a second apart: a service that was killed starts slowly where all cores are busy.
ATTEMPTS = 320
# How a call ends that has waited too long for a lock or a connection, whoever is killed.
WAITED_IN_VAIN = (ConcurrentChange, TooManyConnections)
GONE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


@dataclass
class Stubs:
    """The services of a running machine, as `admin` and `dev1` see them."""

    catalog: "catalog_pb2_grpc.CatalogServiceAsyncStub"
    deployment: "deployment_pb2_grpc.DeploymentServiceAsyncStub"
    dev: tuple[tuple[str, str], ...]
    admin: tuple[tuple[str, str], ...]
    database: asyncpg.Connection


@pytest.fixture
async def stubs() -> AsyncIterator[tuple[Machine, Stubs]]:
    """Bring everything up with 200 published releases of `gateway`, and log in."""
    with own_environment() as environment:
        environment["BCRYPT_ROUNDS"] = "4"
        with Machine(environment) as machine:
            machine.wait_for("\nready\n")
            catalog = grpc.aio.insecure_channel(environment["CATALOG_ADDRESS"])
            deployment = grpc.aio.insecure_channel(environment["DEPLOYMENT_ADDRESS"])
            identity = identity_pb2_grpc.IdentityServiceStub(catalog)
            database = await asyncpg.connect(machine.database_url())
            made = Stubs(
                catalog_pb2_grpc.CatalogServiceStub(catalog),
                deployment_pb2_grpc.DeploymentServiceStub(deployment),
                await credentials(identity, "dev1"),
                await credentials(identity, "admin"),
                database,
            )
            await each(lambda number: publish(made, number))
            yield machine, made
            await database.close()
            await catalog.close()
            await deployment.close()


async def credentials(
    identity: "identity_pb2_grpc.IdentityServiceAsyncStub", username: str
) -> tuple[tuple[str, str], ...]:
    request = identity_pb2.LoginRequest(username=username, password="password123")
    session = (await identity.Login(request)).session
    return (("authorization", f"Bearer {session.access_token}"),)


async def publish(stubs: Stubs, number: int) -> None:
    create = catalog_pb2.CreateReleaseRequest(
        service="gateway", version=f"9.0.{number}", commit="abcdef1", artifact_digest=DIGEST
    )
    created = await stubs.catalog.CreateRelease(create, metadata=stubs.dev)
    request = catalog_pb2.PublishReleaseRequest(release=created.release.id)
    await stubs.catalog.PublishRelease(request, metadata=stubs.dev)


async def each(work: Callable[[int], Awaitable[None]]) -> None:
    """Do `work` for every number, as `CLIENTS` clients."""
    numbers = iter(range(CHANGES))

    async def client() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


async def promote(
    stubs: Stubs, number: int, *, killed: bool = False
) -> deployment_pb2.PromoteReleaseResponse:
    """Request a deployment, again where the machine stood still or who is called was `killed`."""
    request = deployment_pb2.PromoteReleaseRequest(
        release=f"gateway@9.0.{number}", environment="dev", request_id=str(uuid.uuid4())
    )
    seconds = 10 if killed else None
    for attempt in range(ATTEMPTS):
        try:
            return await stubs.deployment.PromoteRelease(
                request, metadata=stubs.dev, timeout=seconds
            )
        except grpc.aio.AioRpcError as error:
            passing = isinstance(from_rpc_error(error), WAITED_IN_VAIN)
            if not (passing or (killed and error.code() in GONE)) or attempt == ATTEMPTS - 1:
                raise
            await asyncio.sleep(0.25)
    raise AssertionError


async def assert_one_entry_each(stubs: Stubs, deployments: list[str]) -> None:
    """Wait for delivery, then compare the ledger with what was acknowledged and with the rows."""
    for _ in range(ATTEMPTS):
        if not await stubs.database.fetchval("SELECT count(*) FROM outbox WHERE sent_at IS NULL"):
            break
        await asyncio.sleep(0.25)
    entries = await stubs.database.fetch(
        """
        SELECT aggregate, count(*) AS entries FROM audit_logs
         WHERE producer = 'deployment' GROUP BY aggregate
        """
    )
    rows = await stubs.database.fetch(
        "SELECT id::text, row_version FROM deployments WHERE row_version > 0"
    )
    versions = {row["id"]: row["row_version"] for row in rows}
    leaves = await stubs.database.fetchrow(
        "SELECT count(*), min(leaf_index), max(leaf_index), count(DISTINCT leaf_index)"
        " FROM audit_logs"
    )
    assert len(set(deployments)) == CHANGES
    assert versions.keys() == set(deployments)
    # Each but the newest was superseded by the next one, which is a change of its own.
    assert sorted(versions.values()) == [1, *[2] * (CHANGES - 1)]
    assert {entry["aggregate"]: entry["entries"] for entry in entries} == {
        f"deployment:{deployment}": version for deployment, version in versions.items()
    }
    assert leaves is not None
    assert (leaves[1], leaves[2], leaves[3]) == (0, leaves[0] - 1, leaves[0])
    of_deployment = await stubs.deployment.ReconcileAudit(
        deployment_pb2.ReconcileAuditRequest(), metadata=stubs.admin
    )
    of_catalog = await stubs.catalog.ReconcileAudit(
        catalog_pb2.ReconcileAuditRequest(), metadata=stubs.admin
    )
    assert (of_deployment.missing, of_catalog.missing) == (0, 0)
    assert of_deployment.aggregates == CHANGES
    assert of_catalog.aggregates >= CHANGES


async def test_killing_audit_is_invisible_to_callers(stubs: tuple[Machine, Stubs]) -> None:
    """200 changes while audit dies and comes back: no error, 200 entries, nothing missing."""
    machine, services = stubs
    answers: list[deployment_pb2.PromoteReleaseResponse] = []

    async def change(number: int) -> None:
        if len(answers) == KILL_AFTER:
            os.kill(machine.children()["audit"], signal.SIGKILL)
        answers.append(await promote(services, number))

    await each(change)

    states = {answer.audit.state for answer in answers}
    assert audit_receipt_pb2.AUDIT_STATE_DEFERRED in states
    assert audit_receipt_pb2.AUDIT_STATE_RECORDED in states
    await assert_one_entry_each(services, [answer.deployment.id for answer in answers])


async def test_killing_deployment_loses_and_doubles_nothing(stubs: tuple[Machine, Stubs]) -> None:
    """Calls that fail are repeated with their request id: one deployment and one entry each."""
    machine, services = stubs
    answers: list[deployment_pb2.PromoteReleaseResponse] = []

    async def change(number: int) -> None:
        if len(answers) == KILL_AFTER:
            os.kill(machine.children()["deployment"], signal.SIGKILL)
        answers.append(await promote(services, number, killed=True))

    await each(change)

    await assert_one_entry_each(services, [answer.deployment.id for answer in answers])
