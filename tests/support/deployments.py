"""The deployment service for a test: real server, real database, and a ledger that only listens."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar
from uuid import UUID

import asyncpg
import grpc
from google.protobuf.message import Message
from release_manager.audit.v1 import audit_pb2, audit_pb2_grpc
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import (
    deployment_pb2_grpc,
    execution_pb2_grpc,
    output_pb2_grpc,
    restrictions_pb2_grpc,
)

from services.deployment.app import deployment_server
from shared.domain_error import DomainError, Kind
from shared.identity.access_tokens import AccessTokens
from shared.identity.keys import ensure_keys
from shared.ids import new_id
from shared.rpc.status import from_rpc_error
from shared.setting_values import driver_url
from shared.settings import read_settings
from tests.support.platform import errors_kept

PEOPLE: Mapping[str, str] = {
    "admin": "admin",
    "lead1": "lead",
    "lead2": "lead",
    "dev1": "developer",
    "dev2": "developer",
    "dev3": "developer",
    "viewer1": "viewer",
}
ENVIRONMENTS = ("Dev", "Staging", "Prod")
PATIENCE = 5
STAGES = ("build", "test", "security_scan", "deploy", "smoke_test")

Result = TypeVar("Result")


class ListeningLedger(audit_pb2_grpc.AuditServiceServicer):
    """An audit service that keeps what it is told, once each, in memory."""

    def __init__(self) -> None:
        """Begin empty."""
        self.events: dict[str, audit_pb2.AuditEvent] = {}

    async def LogActions(self, request: audit_pb2.LogActionsRequest, _: Any) -> Any:
        """Keep a batch."""
        results = []
        for event in request.events:
            self.events.setdefault(event.event_id, event)
            index = list(self.events).index(event.event_id)
            appended = audit_pb2.APPEND_OUTCOME_APPENDED
            results.append(audit_pb2.AppendResult(outcome=appended, leaf_index=index))
        return audit_pb2.LogActionsResponse(results=results)

    async def GetAggregateSequences(
        self, request: audit_pb2.GetAggregateSequencesRequest, _: Any
    ) -> Any:
        """Return how far each aggregate is known."""
        found = {aggregate: len(self.sequences()[aggregate]) for aggregate in request.aggregates}
        return audit_pb2.GetAggregateSequencesResponse(sequences=found)

    def sequences(self) -> Mapping[str, list[int]]:
        """Return the sequences of each aggregate in the order in which they arrived."""
        known: dict[str, list[int]] = defaultdict(list)
        for event in self.events.values():
            known[event.aggregate].append(event.aggregate_seq)
        return known


async def patiently(call: Callable[[], Awaitable[Result]]) -> Result:
    """Call, and a few times again as long as the error says when to."""
    for _ in range(PATIENCE):
        try:
            return await call()
        except DomainError as error:
            if error.retry_after is None:
                raise
            await asyncio.sleep(error.retry_after.total_seconds())
    return await call()


async def told(call: Callable[[], Awaitable[Result]]) -> Result:
    """Return what any service answers; raises the error that it answers with.

    What it asks to repeat a little later is repeated.
    """

    async def asked() -> Result:
        try:
            return await call()
        except grpc.aio.AioRpcError as failure:
            error = from_rpc_error(failure)
            raise (failure if error is None else error) from None

    return await patiently(asked)


@dataclass
class World:
    """A running deployment service, people who call it, and things to deploy."""

    stub: Any
    restrictions: Any
    execution: Any
    output: Any
    database_url: str
    database: asyncpg.Pool
    ledger: ListeningLedger
    errors: list[Mapping[str, Any]]
    people: dict[str, UUID] = field(default_factory=dict)
    tokens: dict[str, str] = field(default_factory=dict)
    services: dict[str, UUID] = field(default_factory=dict)
    environments: dict[str, UUID] = field(default_factory=dict)

    async def call(self, who: str, method: str, request: Message) -> Any:
        """Call a method as somebody; raises the error that the service answers with.

        What the service asks to repeat a little later is repeated.
        """
        return await patiently(lambda: self._call(who, method, request))

    async def _call(self, who: str, method: str, request: Message) -> Any:
        metadata = (("authorization", f"Bearer {self.tokens[who]}"),)
        stubs = (self.restrictions, self.execution, self.output)
        stub = next((stub for stub in stubs if hasattr(stub, method)), self.stub)
        try:
            return await getattr(stub, method)(request, metadata=metadata, timeout=20)
        except grpc.aio.AioRpcError as failure:
            error = from_rpc_error(failure)
            if error is None or error.kind is Kind.INTERNAL:
                raise AssertionError(self.errors) from failure
            raise error from None

    async def refused(self, who: str, method: str, request: Message) -> DomainError:
        """Return the error with which a call is refused."""
        try:
            answer = await self.call(who, method, request)
        except DomainError as error:
            return error
        raise AssertionError(answer)

    async def release(
        self, name: str, *, author: str = "dev2", status: str = "published", **more: Any
    ) -> str:
        """Add a release such as `auth@1.0.0`, its service too if it is new; return the name."""
        service, _, version = name.partition("@")
        if service not in self.services:
            self.services[service] = new_id()
            team = new_id()
            await self.insert("teams", id=team, name=f"Team {service}")
            await self.insert(
                "services",
                id=self.services[service],
                team_id=team,
                owner_id=self.people["lead1"],
                name=service,
            )
        draft = status == "draft"
        await self.insert(
            "releases",
            id=new_id(),
            service_id=self.services[service],
            created_by=self.people[author],
            authors=[self.people[author]],
            version=version,
            status=status,
            commit_sha="" if draft else "c0ffee",
            artifact_digest="" if draft else f"sha256:{service}{version}",
            published_at=None if draft else datetime.now(UTC),
            **more,
        )
        return name

    async def insert(self, table: str, **values: Any) -> None:
        """Insert a row as the owner of the database."""
        columns = ", ".join(values)
        places = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        statement = f"INSERT INTO {table} ({columns}) VALUES ({places})"
        await self.database.execute(statement, *values.values())

    async def promote(self, release: str, environment: str, who: str = "dev1") -> pb.Deployment:
        """Request a deployment with stages."""
        request = pb.PromoteReleaseRequest(release=release, environment=environment)
        answer: pb.PromoteReleaseResponse = await self.call(who, "PromoteRelease", request)
        return answer.deployment

    async def create(
        self, release: str, environment: str, who: str = "dev1", **more: Any
    ) -> pb.Deployment:
        """Request a deployment without stages."""
        request = pb.CreateDeploymentRequest(release=release, environment=environment, **more)
        answer: pb.CreateDeploymentResponse = await self.call(who, "CreateDeployment", request)
        return answer.deployment

    async def approve(self, deployment_id: str, *people: str) -> pb.Deployment:
        """Approve as each of `people`."""
        for who in people:
            request = pb.ApproveDeploymentRequest(deployment=deployment_id)
            answer = await self.call(who, "ApproveDeployment", request)
        found: pb.Deployment = answer.deployment
        return found

    async def stage(
        self, deployment_id: str, stage: str, status: str, who: str = "dev1"
    ) -> pb.UpdatePipelineStageResponse:
        """Report a stage as `completed`, `failed` or `in_progress`."""
        request = pb.UpdatePipelineStageRequest(
            deployment=deployment_id,
            stage=stage,
            status=pb.StageStatus.Value(f"STAGE_STATUS_{status.upper()}"),
        )
        answer: pb.UpdatePipelineStageResponse = await self.call(
            who, "UpdatePipelineStage", request
        )
        return answer

    async def run_stages(
        self, deployment_id: str, *stages: str, last: str = "completed"
    ) -> pb.Deployment:
        """Complete the stages one after the other, the last of them as `last`."""
        for number, name in enumerate(stages, start=1):
            status = last if number == len(stages) else "completed"
            answer = await self.stage(deployment_id, name, status)
        return answer.deployment

    async def start(self, deployment_id: str, who: str = "dev1") -> pb.Deployment:
        """Start a deployment without stages."""
        request = pb.StartDeploymentRequest(deployment=deployment_id)
        answer: pb.StartDeploymentResponse = await self.call(who, "StartDeployment", request)
        return answer.deployment

    async def finish(self, deployment_id: str, outcome: str = "completed") -> pb.Deployment:
        """Finish a deployment without stages."""
        value = pb.DeploymentOutcome.Value(f"DEPLOYMENT_OUTCOME_{outcome.upper()}")
        request = pb.FinishDeploymentRequest(deployment=deployment_id, outcome=value)
        answer: pb.FinishDeploymentResponse = await self.call("dev1", "FinishDeployment", request)
        return answer.deployment

    async def deployed(self, release: str, environment: str = "Dev") -> pb.Deployment:
        """Deploy a release completely, without stages, to an environment that asks nobody."""
        made = await self.create(release, environment)
        await self.start(made.id)
        return await self.finish(made.id)

    async def get(self, deployment_id: str, view: str = "FULL") -> pb.Deployment:
        """Read a deployment."""
        value = pb.DeploymentView.Value(f"DEPLOYMENT_VIEW_{view}")
        request = pb.GetDeploymentRequest(deployment=deployment_id, view=value)
        answer: pb.GetDeploymentResponse = await self.call("viewer1", "GetDeployment", request)
        return answer.deployment

    async def roll_back(
        self, deployment_id: str, who: str = "dev1", **more: Any
    ) -> pb.ExecuteRollbackResponse:
        """Roll a deployment back."""
        request = pb.ExecuteRollbackRequest(deployment=deployment_id, reason="it broke", **more)
        answer: pb.ExecuteRollbackResponse = await self.call(who, "ExecuteRollback", request)
        return answer

    async def check_events(self) -> None:
        """Check that every version of every aggregate has exactly one event in the outbox."""
        rows = await self.database.fetch(
            "SELECT a.name, a.version,"
            " array_agg(o.aggregate_seq ORDER BY o.aggregate_seq) AS seen"
            " FROM (SELECT 'deployment:' || id, row_version FROM deployments"
            " UNION ALL SELECT 'release_mark:' || id, row_version FROM release_marks"
            " UNION ALL SELECT 'lock:' || id, row_version FROM locks"
            " UNION ALL SELECT 'gate_override:' || id, row_version FROM gate_overrides"
            " UNION ALL SELECT 'freeze_window:' || id, row_version FROM freeze_windows"
            " UNION ALL SELECT 'policy:' || environment_id, max(row_version)"
            " FROM environment_policies GROUP BY environment_id) AS a (name, version)"
            " LEFT JOIN outbox o ON o.aggregate = a.name WHERE a.version > 0"
            " GROUP BY a.name, a.version"
        )
        for row in rows:
            assert row["seen"] == list(range(1, row["version"] + 1)), row


@asynccontextmanager
async def running_world(database_url: str, directory: Path) -> AsyncIterator[World]:
    """Run the service on an empty database and fill in people and environments."""
    keys = ensure_keys(directory)
    (directory / "deployment.token").write_text("rmt_not_checked_by_this_ledger")
    ledger, audit = ListeningLedger(), grpc.aio.server()  # type: ignore[abstract]
    audit_pb2_grpc.add_AuditServiceServicer_to_server(ledger, audit)
    port = audit.add_insecure_port("127.0.0.1:0")
    await audit.start()
    settings = read_settings(
        database_url=database_url, release_manager_key_dir=directory, grace_seconds=0.5
    ).model_copy(update={"audit_address": f"127.0.0.1:{port}", "deployment_address": "127.0.0.1:0"})
    try:
        async with AsyncExitStack() as stack:
            errors = stack.enter_context(errors_kept())
            pool = await stack.enter_async_context(
                asyncpg.create_pool(driver_url(database_url), min_size=1, max_size=4)
            )
            server = await stack.enter_async_context(deployment_server(settings))
            await server.start()
            options = (("grpc.use_local_subchannel_pool", 1),)
            async with grpc.aio.insecure_channel(server.address, options) as channel:
                stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
                restrictions = restrictions_pb2_grpc.RestrictionServiceStub(channel)
                execution = execution_pb2_grpc.ExecutionServiceStub(channel)
                world = World(
                    *(stub, restrictions, execution, output_pb2_grpc.OutputServiceStub(channel)),
                    *(settings.database_url, pool, ledger, errors),
                )
                await _fill(world, AccessTokens(keys, timedelta(hours=1)))
                yield world
            await server.stop()
    finally:
        await audit.stop(0)


async def _fill(world: World, tokens: AccessTokens) -> None:
    sessions = await add_people_and_environments(world, policy_versions={"Prod": 1})
    for username, session_id in sessions.items():
        world.tokens[username] = tokens.issue(world.people[username], session_id).text
    # As in the sample data, nothing has to soak before it goes to Prod.
    await world.insert(
        "environment_policies",
        id=new_id(),
        environment_id=world.environments["Prod"],
        policy_version=1,
        policy=json.dumps({"soak_seconds": 0}),
        created_at=datetime.now(UTC) - timedelta(days=365),
    )


async def add_people_and_environments(
    world: World, policy_versions: Mapping[str, int] = MappingProxyType({})
) -> Mapping[str, UUID]:
    """Add people with a session each, and the environments; return the sessions."""
    sessions = {}
    for username, role in PEOPLE.items():
        world.people[username], sessions[username] = new_id(), new_id()
        await world.insert(
            "users",
            id=world.people[username],
            username=username,
            email=f"{username}@example.com",
            role=role,
            password_hash="none",
        )
        await world.insert("sessions", id=sessions[username], user_id=world.people[username])
    for order, name in enumerate(ENVIRONMENTS, start=1):
        world.environments[name] = new_id()
        await world.insert(
            "environments",
            id=world.environments[name],
            name=name,
            environment_type=name.lower(),
            promotion_order=order,
            policy_version=policy_versions.get(name, 0),
        )
    return sessions
