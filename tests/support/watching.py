"""Watchers of deployments for tests: what a stream has brought, checked as it comes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from release_manager.audit.v1 import audit_pb2_grpc
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import deployment_pb2_grpc

from services.deployment.app import deployment_server
from shared.domain_error import DomainError
from shared.rpc.server import RpcServer
from shared.rpc.status import from_rpc_error
from shared.settings import read_settings
from tests.support.deployments import ListeningLedger, World
from tests.support.platform import dial

WAIT_S = 20.0


@dataclass
class Watcher:
    """A stream, the newest state of each deployment in it, and how far it said it is."""

    call: Any
    states: dict[str, pb.Deployment] = field(default_factory=dict)
    etags: dict[str, list[int]] = field(default_factory=dict)
    synced: bool = False
    heartbeats: int = 0
    as_of: datetime | None = None

    async def read(self) -> pb.WatchDeploymentsResponse:
        """Take one message, and check what is true of each; raises the error of the end."""
        try:
            message: pb.WatchDeploymentsResponse = await asyncio.wait_for(self.call.read(), WAIT_S)
        except grpc.aio.AioRpcError as failure:
            error = from_rpc_error(failure)
            assert error is not None
            raise error from None
        kind = message.WhichOneof("message")
        assert kind is not None
        if kind == "deployment":
            found = message.deployment
            seen = self.etags.setdefault(found.id, [])
            assert not seen or int(found.etag) >= seen[-1], (found.id, seen, found.etag)
            seen.append(int(found.etag))
            self.states[found.id] = found
        else:
            as_of = getattr(message, kind).as_of.ToDatetime(UTC)
            assert self.as_of is None or as_of >= self.as_of
            assert self.synced is (kind == "heartbeat")
            self.synced, self.as_of = True, as_of
            self.heartbeats += kind == "heartbeat"
        return message

    async def until(self, reached: Callable[[], bool]) -> None:
        """Read until something holds."""
        async with asyncio.timeout(WAIT_S):
            while not reached():
                await self.read()

    async def sees(self, expected: pb.Deployment) -> None:
        """Read until a deployment is here in its version or a newer one."""
        await self.until(lambda: self.version(expected.id) >= int(expected.etag))

    def version(self, deployment_id: str) -> int:
        """Return the newest version of a deployment that came, -1 when none did."""
        return self.etags.get(deployment_id, [-1])[-1]

    async def end(self) -> DomainError:
        """Read to the end, and return the error of it."""
        try:
            while True:
                await self.read()
        except DomainError as error:
            return error


@asynccontextmanager
async def watching(
    world: World, who: str = "viewer1", stub: Any = None, **asked: Any
) -> AsyncIterator[Watcher]:
    """Watch, and read the current state."""
    metadata = (("authorization", f"Bearer {world.tokens[who]}"),)
    request = pb.WatchDeploymentsRequest(**asked)
    call = (stub or world.stub).WatchDeployments(request, metadata=metadata)
    watcher = Watcher(call)
    try:
        await watcher.until(lambda: watcher.synced)
        yield watcher
    finally:
        call.cancel()


async def beginning(world: World, *expected: str, **asked: Any) -> dict[str, pb.Deployment]:
    """Return the current state as soon as it is just these deployments.

    A change of a moment ago may still be on its way to all who watch, and comes besides.
    """
    async with asyncio.timeout(WAIT_S):
        while True:
            async with watching(world, **asked) as watcher:
                if set(watcher.states) == set(expected):
                    return watcher.states


@dataclass(frozen=True)
class Replica:
    """One more deployment service, and a stub to call it."""

    stub: Any
    server: RpcServer


@asynccontextmanager
async def replica(world: World, directory: Path) -> AsyncIterator[Replica]:
    """Run one more deployment service on the world's database."""
    audit = grpc.aio.server()
    ledger = ListeningLedger()  # type: ignore[abstract]  # it serves what a producer calls
    audit_pb2_grpc.add_AuditServiceServicer_to_server(ledger, audit)
    port = audit.add_insecure_port("127.0.0.1:0")
    await audit.start()
    settings = read_settings(
        database_url=world.database_url, release_manager_key_dir=directory, grace_seconds=5
    ).model_copy(update={"audit_address": f"127.0.0.1:{port}", "deployment_address": "127.0.0.1:0"})
    async with deployment_server(settings) as server:
        await server.start()
        async with dial(server.address) as channel:
            stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
            try:
                yield Replica(stub, server)
            finally:
                await server.stop()
    await audit.stop(0)


def earlier(moment: datetime | None, seconds: float) -> datetime:
    """Return a moment so many seconds before another one."""
    assert moment is not None
    return moment - timedelta(seconds=seconds)
