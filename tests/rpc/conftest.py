"""A real server on a port of its own, with the whole chain of interceptors, for each test."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
import pytest_asyncio

from shared.domain_error import DomainError
from shared.identity.actor import Call
from shared.rpc.server import RpcServer, ServerOptions
from tests.rpc.echo import EchoServicer, KnownTokens
from tests.rpc.protos import echo_pb2_grpc

SERVICE = "echo.v1.EchoService"


@dataclass
class Running:
    """A running server, its servicer, a stub and what was refused."""

    server: RpcServer
    servicer: EchoServicer
    channel: grpc.aio.Channel
    denied: list[tuple[Call, DomainError]] = field(default_factory=list)

    @property
    def stub(self) -> Any:
        return echo_pb2_grpc.EchoServiceStub(self.channel)


async def running_server(**options: Any) -> AsyncIterator[Running]:
    """Start a server with the given options, and stop it at the end."""
    denied: list[tuple[Call, DomainError]] = []

    async def on_denied(call: Call, error: DomainError) -> None:
        denied.append((call, error))

    chosen: dict[str, Any] = {"address": "127.0.0.1:0", "grace_seconds": 1.0} | options
    server = RpcServer(ServerOptions(**chosen), verifier=KnownTokens(), on_denied=on_denied)
    servicer = EchoServicer(server.stopping)
    server.add(SERVICE, echo_pb2_grpc.add_EchoServiceServicer_to_server, servicer)
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Running(server, servicer, channel, denied)
    await server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def running(request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    """Give a server; `parametrize("running", [{…}], indirect=True)` chooses its options."""
    async for server in running_server(**getattr(request, "param", {})):
        yield server


def token(name: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a caller that `KnownTokens` knows by `name`."""
    return (("authorization", f"Bearer {name}"),)
