"""The whole product for a test: the three services in this event loop, on a database of its own.

Everything is as in production (interceptors, keys, relays, roles of the database) but five things:
ports are free ones, password hashes are cheap, log lines are kept instead of printed, and a change
waits for its entry for as long as it can, so that a test finds that in the ledger at once; and no
lock and no connection takes too long on a slow machine.
"""

import importlib
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
import structlog
from google.protobuf.message import Message
from release_manager.audit.v1.audit_pb2_grpc import AuditServiceStub
from release_manager.audit.v1.notifications_pb2_grpc import NotificationServiceStub
from release_manager.audit.v1.retention_pb2_grpc import RetentionServiceStub
from release_manager.catalog.v1.catalog_pb2_grpc import CatalogServiceStub
from release_manager.deployment.v1.deployment_pb2_grpc import DeploymentServiceStub
from release_manager.deployment.v1.execution_pb2_grpc import ExecutionServiceStub
from release_manager.deployment.v1.insights_pb2_grpc import InsightServiceStub
from release_manager.deployment.v1.output_pb2_grpc import OutputServiceStub
from release_manager.deployment.v1.restrictions_pb2_grpc import RestrictionServiceStub
from release_manager.identity.v1 import identity_pb2
from release_manager.identity.v1.identity_pb2_grpc import IdentityServiceStub

from shared.db import engine
from shared.identity.keys import Keys, ensure_keys
from shared.rpc.methods import Methods, methods_of
from shared.settings import Settings, read_settings
from tests.support.programs import Program, add_program
from tests.support.raw_calls import Answer, Metadata, ask

AUDIT: Final = "release_manager.audit.v1.AuditService"
RETENTION: Final = "release_manager.audit.v1.RetentionService"
NOTIFICATIONS: Final = "release_manager.audit.v1.NotificationService"
IDENTITY: Final = "release_manager.identity.v1.IdentityService"
CATALOG: Final = "release_manager.catalog.v1.CatalogService"
DEPLOYMENT: Final = "release_manager.deployment.v1.DeploymentService"
INSIGHTS: Final = "release_manager.deployment.v1.InsightService"
EXECUTION: Final = "release_manager.deployment.v1.ExecutionService"
OUTPUT: Final = "release_manager.deployment.v1.OutputService"
RESTRICTIONS: Final = "release_manager.deployment.v1.RestrictionService"
SERVED: Final[Mapping[str, Sequence[str]]] = {
    "audit": (AUDIT, NOTIFICATIONS, RETENTION),
    "catalog": (IDENTITY, CATALOG),
    "deployment": (DEPLOYMENT, EXECUTION, INSIGHTS, OUTPUT, RESTRICTIONS),
}
ENDLESS: Final = frozenset({f"/{AUDIT}/FollowAuditLogs", f"/{DEPLOYMENT}/WatchDeployments"})
PASSWORD: Final = "password123"
ANY_PORT: Final = "127.0.0.1:0"
# A test that takes longer asks for its caller again.
RESERVE_S: Final = 360
LARGEST_ANSWER: Final = 16 * 1_048_576


@dataclass
class Platform:
    """The running product. `errors` has what it logged as errors, with their exceptions."""

    settings: Settings
    keys: Keys
    channels: Mapping[str, grpc.aio.Channel]
    addresses: Mapping[str, str]
    errors: list[Mapping[str, Any]]
    sessions: dict[str, identity_pb2.Session] = field(default_factory=dict)
    programs: dict[str, Program] = field(default_factory=dict)

    @property
    def database_url(self) -> str:
        """Where the database is, as an owner who may do everything."""
        return self.settings.database_url

    @property
    def audit(self) -> Any:
        """The audit service."""
        return AuditServiceStub(self.channels[AUDIT])

    @property
    def retention(self) -> Any:
        """Redaction, retirement and legal holds."""
        return RetentionServiceStub(self.channels[RETENTION])

    @property
    def notifications(self) -> Any:
        """Webhooks."""
        return NotificationServiceStub(self.channels[NOTIFICATIONS])

    @property
    def identity(self) -> Any:
        """The identity service, which the catalog process serves."""
        return IdentityServiceStub(self.channels[IDENTITY])

    @property
    def catalog(self) -> Any:
        """The catalog service."""
        return CatalogServiceStub(self.channels[CATALOG])

    @property
    def deployment(self) -> Any:
        """The deployment service."""
        return DeploymentServiceStub(self.channels[DEPLOYMENT])

    @property
    def execution(self) -> Any:
        """What executors and people who intervene call, which the deployment process serves."""
        return ExecutionServiceStub(self.channels[EXECUTION])

    @property
    def output(self) -> Any:
        """What stages print, which the deployment process serves."""
        return OutputServiceStub(self.channels[OUTPUT])

    @property
    def restrictions(self) -> Any:
        """Freeze windows, locks and overrides, which the deployment process serves."""
        return RestrictionServiceStub(self.channels[RESTRICTIONS])

    @property
    def insights(self) -> Any:
        """What the history of deployments says, which the deployment process serves."""
        return InsightServiceStub(self.channels[INSIGHTS])

    def channel_of(self, method: str) -> grpc.aio.Channel:
        """Return the channel on which `/package.Service/Method` is served; all serve health."""
        return self.channels.get(method.split("/")[1], self.channels[AUDIT])

    async def log_in(self, username: str) -> identity_pb2.Session:
        """Return a new session of a seeded user."""
        request = identity_pb2.LoginRequest(username=username, password=PASSWORD)
        answer: identity_pb2.LoginResponse = await self.identity.Login(request)
        return answer.session

    async def person(self, username: str) -> Metadata:
        """Return the metadata of a seeded user, who logs in again before the token expires."""
        session = self.sessions.get(username)
        if session is None or session.access_token_expires_at.ToSeconds() < time.time() + RESERVE_S:
            self.sessions[username] = session = await self.log_in(username)
        return bearer(session.access_token)

    async def program(self, role: str, *scopes: str) -> Metadata:
        """Return the metadata of a service account, made when it is first asked for."""
        name = "-".join(["test", role, *scopes]).replace(".", "-").replace("_", "-")
        if name not in self.programs:
            self.programs[name] = await add_program(self.database_url, name, role, scopes)
        return bearer(self.programs[name].token)

    async def service_identity(self, service: str) -> Metadata:
        """Return the metadata with which a service of the product calls the audit service."""
        token = self.settings.token_for(service)
        assert token is not None
        return bearer(token.get_secret_value())

    async def ask(
        self, method: str, request: Message | bytes, metadata: Metadata = (), **how: Any
    ) -> Answer:
        """Call a method by its name, with a message or with bytes that are perhaps none.

        Of a stream without end, the first answer is waited for.
        """
        if method in ENDLESS and how.get("most") is None:
            how["most"] = 1
        raw = request if isinstance(request, bytes) else request.SerializeToString()
        return await ask(
            self.channel_of(method), method, raw, metadata, streams=streams(method), **how
        )


@cache
def product_methods() -> Methods:
    """Return all methods of the product, by the names under which they are called."""
    return methods_of(service for names in SERVED.values() for service in names)


@cache
def methods_named(service: str) -> Methods:
    """Return the methods of any service that is served, by its full name.

    Version 1 of reflection is the same as v1alpha but for the name, and has no generated code.
    """
    described = service.replace(".reflection.v1.", ".reflection.v1alpha.")
    methods = methods_of([described]).items()
    return {name.replace(described, service): method for name, method in methods}


@cache
def streams(method: str) -> bool:
    """Say whether a method, if there is such a one, answers with a stream."""
    try:
        return methods_named(method.split("/")[1])[method].server_streaming
    except KeyError:
        return False


def bearer(token: str) -> Metadata:
    """Return the metadata that carries a token."""
    return (("authorization", f"Bearer {token}"),)


@asynccontextmanager
async def running_platform(database_url: str, **given: Any) -> AsyncIterator[Platform]:
    """Run the product on a seeded database; `given` are settings by the names of their fields."""
    directory = Path(tempfile.mkdtemp(prefix="rm-platform-"))
    keys = ensure_keys(directory)
    usual = {
        "bcrypt_rounds": 4,
        "grace_seconds": 0.5,
        "log_level": "error",
        "audit_wait_milliseconds": 10_000,
    }
    settings = read_settings(
        database_url=database_url, release_manager_key_dir=directory, **(usual | given)
    ).model_copy(update={f"{name}_address": ANY_PORT for name in SERVED})
    try:
        with errors_kept() as errors:
            for service in ("catalog", "deployment"):
                program = await add_program(
                    database_url, service, "viewer", ("audit.write", "on_behalf_of")
                )
                (directory / f"{service}.token").write_text(program.token)
            async with AsyncExitStack() as stack:
                stack.enter_context(patience_with_the_database())
                channels: dict[str, grpc.aio.Channel] = {}
                addresses: dict[str, str] = {}
                for name, services in SERVED.items():
                    app = importlib.import_module(f"services.{name}.app")
                    serving = getattr(app, f"{name}_server")(settings)
                    server = await stack.enter_async_context(serving)
                    await server.start()
                    stack.push_async_callback(server.stop)
                    addresses[name] = server.address
                    settings = settings.model_copy(update={f"{name}_address": server.address})
                    for service in services:
                        channels[service] = await stack.enter_async_context(dial(server.address))
                yield Platform(settings, keys, channels, addresses, errors)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def patience_with_the_database() -> Iterator[None]:
    """Refuse nobody because a lock or a connection takes seconds; deadlocks are still found."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(engine, "LOCK_TIMEOUT_MS", 20_000)
        patched.setattr(engine, "POOL_TIMEOUT_S", 20.0)
        patched.setattr(engine, "CONNECT_TIMEOUT_S", 20.0)
        yield


def dial(address: str) -> grpc.aio.Channel:
    """Return a plain channel of its own connection, which takes large answers."""
    options = (
        ("grpc.max_receive_message_length", LARGEST_ANSWER),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_retries", 0),
    )
    return grpc.aio.insecure_channel(address, options)


@contextmanager
def errors_kept() -> Iterator[list[Mapping[str, Any]]]:
    """Provide a list that gets what is logged as an error, and print no log lines meanwhile."""
    kept: list[Mapping[str, Any]] = []

    def keep(_logger: object, level: str, line: Any) -> Any:
        if level in {"error", "exception", "critical"}:
            kept.append(dict(line))
        raise structlog.DropEvent

    before = structlog.get_config()
    merge = structlog.contextvars.merge_contextvars
    structlog.configure(processors=[merge, keep], cache_logger_on_first_use=False)
    try:
        yield kept
    finally:
        structlog.configure(**before)
