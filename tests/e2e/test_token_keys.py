"""The key of access tokens replaced while people work: no call fails, and dropped keys are out."""

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import grpc
import jwt
import pytest
from release_manager.audit.v1 import audit_pb2, audit_pb2_grpc
from release_manager.catalog.v1 import catalog_pb2, catalog_pb2_grpc
from release_manager.deployment.v1 import deployment_pb2, deployment_pb2_grpc
from release_manager.identity.v1 import identity_pb2, identity_pb2_grpc

from tests.support.database import PROJECT
from tests.support.machine import Machine, own_environment
from tests.support.platform import PASSWORD, bearer
from tests.support.polling import eventually

pytestmark = pytest.mark.timeout(300)
# What the manual promises of a dropped key, for calls and for streams.
DROPPED_S = 2.0
CUT_OFF_S = 3.0


@dataclass
class Office:
    """The running services as people use them; `failed` has what nobody should ever see."""

    machine: Machine
    environment: dict[str, str]
    identity: Any
    readers: dict[str, Any]
    follow: Any
    kids: Counter[str] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    answered: int = 0

    async def log_in(self) -> str:
        """Return the access token of a new session."""
        request = identity_pb2.LoginRequest(username="lead1", password=PASSWORD)
        token: str = (await self.identity.Login(request)).session.access_token
        self.kids[kid_of(token)] += 1
        return token

    async def answers(self, token: str) -> dict[str, grpc.StatusCode]:
        """Return how each of the three services answers a token."""
        found = {}
        for name, (method, request) in self.readers.items():
            try:
                await method(request, metadata=bearer(token), timeout=20)
                found[name] = grpc.StatusCode.OK
            except grpc.aio.AioRpcError as error:
                found[name] = error.code()
        return found

    async def work_with(self, token: str) -> None:
        """Call all three services; note each that does not answer."""
        for name, code in (await self.answers(token)).items():
            self.answered += 1
            if code is not grpc.StatusCode.OK:
                self.failed.append(f"{name}: {code.name} for key {kid_of(token)}")

    async def keep_working(self, token: str, ended: asyncio.Event) -> None:
        """Go on with one token."""
        while not ended.is_set():
            await self.work_with(token)

    async def keep_logging_in(self, ended: asyncio.Event) -> None:
        """Log in again and again, and use each new token at once."""
        while not ended.is_set():
            try:
                await self.work_with(await self.log_in())
            except grpc.aio.AioRpcError as error:
                self.failed.append(f"Login: {error.code().name}")

    async def command(self, *words: str) -> tuple[int, str]:
        """Give a command of the catalog service."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "services.catalog", *words),
            cwd=PROJECT,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        return process.returncode or 0, said.decode()


def kid_of(token: str) -> str:
    """Return which key has signed a token."""
    return str(jwt.get_unverified_header(token)["kid"])


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    with own_environment() as made:
        yield {**made, "BCRYPT_ROUNDS": "4", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}


@pytest.fixture
async def office(environment: dict[str, str]) -> AsyncIterator[Office]:
    with Machine(environment) as machine:
        machine.wait_for("\nready\n")
        async with AsyncExitStack() as stack:
            channels = [
                await stack.enter_async_context(
                    grpc.aio.insecure_channel(environment[f"{name}_ADDRESS"])
                )
                for name in ("CATALOG", "DEPLOYMENT", "AUDIT")
            ]
            catalog = catalog_pb2_grpc.CatalogServiceStub(channels[0])
            deployment = deployment_pb2_grpc.DeploymentServiceStub(channels[1])
            audit = audit_pb2_grpc.AuditServiceStub(channels[2])
            readers = {
                "catalog": (catalog.ListTeams, catalog_pb2.ListTeamsRequest()),
                "deployment": (
                    deployment.ListDeployments,
                    deployment_pb2.ListDeploymentsRequest(),
                ),
                "audit": (audit.GetCheckpoint, audit_pb2.GetCheckpointRequest()),
            }
            identity = identity_pb2_grpc.IdentityServiceStub(channels[0])
            yield Office(machine, environment, identity, readers, audit.FollowAuditLogs)


async def test_keys_are_replaced_twice_without_a_failed_call_and_dropped_ones_are_out(
    office: Office,
) -> None:
    first = await office.log_in()
    ended = asyncio.Event()
    async with asyncio.TaskGroup() as people:
        for _ in range(2):
            people.create_task(office.keep_working(first, ended))
        people.create_task(office.keep_logging_in(ended))
        for _time in range(2):
            code, said = await office.command("rotate-token-key")
            assert code == 0, said
            await asyncio.sleep(2)
            people.create_task(office.keep_working(await office.log_in(), ended))
        await asyncio.sleep(1)
        ended.set()
    assert office.failed == []
    assert office.answered > 300
    oldest, middle, newest = sorted(office.kids)
    assert min(office.kids.values()) >= 2
    assert kid_of(first) == oldest
    newer = await office.log_in()
    assert kid_of(newer) == newest

    code, said = await office.command("drop-token-key", oldest)
    assert code == 2, said
    assert "--now" in said
    assert set((await office.answers(first)).values()) == {grpc.StatusCode.OK}
    stream = office.follow(audit_pb2.FollowAuditLogsRequest(), metadata=bearer(first))
    await stream.initial_metadata()
    code, said = await office.command("drop-token-key", oldest, "--now")
    assert code == 0, said
    cut_off = asyncio.create_task(end_of(stream))
    await asyncio.sleep(DROPPED_S)
    assert set((await office.answers(first)).values()) == {grpc.StatusCode.UNAUTHENTICATED}
    assert set((await office.answers(newer)).values()) == {grpc.StatusCode.OK}
    assert await asyncio.wait_for(cut_off, CUT_OFF_S) is grpc.StatusCode.UNAUTHENTICATED
    assert (await office.command("drop-token-key", newest, "--now"))[0] == 2

    keys = list((office.machine.data / "keys").glob("*access-token*"))
    assert {path.name.removesuffix(".pem").removesuffix(".pub") for path in keys} == {
        f"access-token-{middle}",
        f"access-token-{newest}",
    }
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert await told(office) == [
        ("rotate_key", middle, "security"),
        ("rotate_key", newest, "security"),
        ("drop_key", oldest, "security"),
    ]


async def end_of(stream: Any) -> grpc.StatusCode:
    """Read a stream to its end; return how that was."""
    try:
        async for _ in stream:
            pass
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def told(office: Office) -> list[tuple[str, str, str]]:
    """Return what the ledger says of the keys, once the outbox is empty."""
    connection = await asyncpg.connect(office.machine.database_url())
    try:
        sent = "SELECT count(*) = 0 FROM outbox WHERE sent_at IS NULL"
        await eventually(lambda: connection.fetchval(sent), 30)
        rows = await connection.fetch(
            "SELECT action, resource_id, category FROM audit_logs"
            " WHERE resource_type = 'token_key' ORDER BY leaf_index"
        )
    finally:
        await connection.close()
    return [tuple(row) for row in rows]
