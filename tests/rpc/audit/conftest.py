"""The audit service on a real port, before a real database, with callers known by name."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import grpc
import pytest
import pytest_asyncio
from release_manager.audit.v1 import audit_pb2 as pb
from release_manager.audit.v1 import audit_pb2_grpc, notifications_pb2_grpc, retention_pb2_grpc

from services.audit.app import audit_server
from services.audit.store.appending import Driver
from shared.domain_error import DomainError
from shared.errors import TokenRejected
from shared.identity.actor import Actor, ActorKind, Role
from shared.identity.keys import ensure_keys
from shared.ids import new_id
from shared.rpc.status import from_rpc_error
from shared.setting_values import driver_url
from shared.settings import read_settings
from tests.support.platform import ANY_PORT
from tests.support.receiver import Receiver, receiving

ADD_USER = """
    INSERT INTO users (id, username, email, role, kind, password_hash)
    VALUES ($1, $2, $2 || '@example.com', $3, $4, CASE WHEN $4 = 'person' THEN 'none' END)
"""
WRITING = frozenset({"audit.write", "on_behalf_of"})
# The settings of a service that may send webhooks to this machine.
LOCAL: Any = {"webhook_allow_http": True, "webhook_allowed_hosts": "127.0.0.1"}


class KnownActors:
    """A verifier that knows callers by name, as if the name were their token."""

    def __init__(self) -> None:
        service = ActorKind.SERVICE
        self.actors = {
            actor.username: actor
            for actor in (
                Actor(new_id(), "deployment", Role.VIEWER, service, WRITING),
                Actor(new_id(), "Audit", Role.VIEWER, service, WRITING),
                Actor(new_id(), "alone", Role.VIEWER, service, frozenset({"audit.write"})),
                Actor(new_id(), "robot", Role.ADMIN, service, frozenset({"deploy"})),
                Actor(new_id(), "lead1", Role.LEAD),
                Actor(new_id(), "lead2", Role.LEAD),
                Actor(new_id(), "dev1", Role.DEVELOPER),
                Actor(new_id(), "admin", Role.ADMIN),
            )
        }

    async def identify(self, metadata: Mapping[str, str]) -> Actor | None:
        """Return the actor whose name is the token."""
        given = metadata.get("authorization")
        if given is None:
            return None
        try:
            return self.actors[given.removeprefix("Bearer ")]
        except KeyError:
            raise TokenRejected from None


@dataclass
class Service:
    """A running audit service: its stubs, its database's owner, and its callers."""

    stub: Any
    owner: Driver
    callers: KnownActors
    stop: Callable[[], Awaitable[None]]
    retention: Any
    notifications: Any

    def user_id(self, name: str) -> UUID:
        """Return the id of a caller's user."""
        return self.callers.actors[name].user_id

    async def log(self, *events: pb.AuditEvent, by: str = "deployment") -> Any:
        """Append events as one batch."""
        return await self.stub.LogActions(pb.LogActionsRequest(events=events), metadata=as_(by))


def as_(name: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata of a caller."""
    return (("authorization", f"Bearer {name}"),)


def event(number: int = 0, **fields: Any) -> pb.AuditEvent:
    """Return an event with an id of its own."""
    given = {
        "event_id": str(new_id()),
        "action": "deploy",
        "resource_type": "deployment",
        "resource_id": f"d-{number}",
    }
    return pb.AuditEvent(**(given | fields))


async def refusal(call: Any) -> DomainError:
    """Return the error that a call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    error = from_rpc_error(failure.value)
    assert error is not None, failure.value
    return error


@pytest_asyncio.fixture(loop_scope="session")
async def audit(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A running audit service."""
    async with running_audit(database_url, tmp_path) as service:
        yield service


@asynccontextmanager
async def running_audit(
    database_url: str, directory: Path, callers: KnownActors | None = None, **given: Any
) -> AsyncIterator[Service]:
    """Run an audit service, with the keys in a directory, and further settings.

    A second one on the same database gets the callers of the first.
    """
    ensure_keys(directory / "keys")
    settings = read_settings(
        database_url=database_url,
        release_manager_key_dir=directory / "keys",
        grace_seconds=1.0,
        **given,
    ).model_copy(update={"audit_address": ANY_PORT})
    owner = await asyncpg.connect(driver_url(database_url))
    if callers is None:
        callers = KnownActors()
        for actor in callers.actors.values():
            name, role = actor.username, actor.role.stored
            await owner.execute(ADD_USER, actor.user_id, name, role, actor.kind.value)
    async with AsyncExitStack() as running:
        server = await running.enter_async_context(audit_server(settings, verifier=callers))
        await server.start()
        running.push_async_callback(server.stop)
        async with grpc.aio.insecure_channel(server.address) as channel:
            yield Service(
                stub=audit_pb2_grpc.AuditServiceStub(channel),
                owner=owner,
                callers=callers,
                stop=running.aclose,
                retention=retention_pb2_grpc.RetentionServiceStub(channel),
                notifications=notifications_pb2_grpc.NotificationServiceStub(channel),
            )
    await owner.close()


@pytest_asyncio.fixture(loop_scope="session")
async def notifying(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that may send to this machine."""
    async with running_audit(database_url, tmp_path, **LOCAL) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes everything."""
    async with receiving() as running:
        yield running
