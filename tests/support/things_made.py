"""Things in the states that requests need, made through the RPCs as an admin."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.audit.v1 import audit_pb2 as audit
from release_manager.audit.v1 import retention_pb2 as retention
from release_manager.catalog.v1 import catalog_pb2 as catalog
from release_manager.common.v1 import access_pb2
from release_manager.deployment.v1 import deployment_pb2 as deployment
from release_manager.deployment.v1 import output_pb2 as output
from release_manager.deployment.v1 import restrictions_pb2 as restrictions
from release_manager.identity.v1 import identity_pb2 as identity

from tests.support.freezing import corpus_windows
from tests.support.platform import Platform
from tests.support.programs import add_program
from tests.support.raw_calls import Metadata

COMMIT = "0123456789abcdef0123456789abcdef01234567"
DIGEST = "sha256:" + "ab" * 32
DEV, STAGING = "dev", "staging"
PRINTED = "Building…\n"


@dataclass
class Made:
    """What the requests are about: names and ids of things in certain states."""

    draft: str
    published: str
    pending: str
    running: str
    staged: str
    completed: str
    undone: str
    waiting: str
    agreed: str
    approval: str
    rollback: str
    stage: str
    printing: str
    metric: str
    account: str
    token: str
    entry: str
    hold: str
    runbook: str
    written: str
    governed: str
    marked: str
    lock: str
    overridden: str
    window: str
    unused: "Unused"


@dataclass
class Unused:
    """Names of things that nothing refers to, so that they can be archived and deleted."""

    team: str
    service: str
    environment: str
    user: str


class Maker:
    """Makes things through the RPCs, as an admin."""

    def __init__(self, platform: Platform, admin: Metadata) -> None:
        self._platform = platform
        self._how = {"metadata": admin}
        self._services = 0

    async def service(self) -> str:
        """Make a service of its own and return its name."""
        self._services += 1
        name = f"corpus-{self._services}"
        await self._platform.catalog.CreateService(
            catalog.CreateServiceRequest(name=name, team="Platform"), **self._how
        )
        return name

    async def release(self, service: str, version: str, *, publish: bool = True) -> str:
        """Make a release and return its name."""
        await self._platform.catalog.CreateRelease(
            catalog.CreateReleaseRequest(
                service=service, version=version, commit=COMMIT, artifact_digest=DIGEST
            ),
            **self._how,
        )
        name = f"{service}@{version}"
        if publish:
            request = catalog.PublishReleaseRequest(release=name)
            await self._platform.catalog.PublishRelease(request, **self._how)
        return name

    async def pending(self, release: str, environment: str = DEV, **more: Any) -> str:
        """Ask for a deployment and return its id."""
        how = {"metadata": more.pop("metadata", self._how["metadata"])}
        answer = await self._platform.deployment.CreateDeployment(
            deployment.CreateDeploymentRequest(release=release, environment=environment, **more),
            **how,
        )
        return str(answer.deployment.id)

    async def running(self, release: str) -> str:
        """Start a deployment in Dev and return its id."""
        made = await self.pending(release)
        request = deployment.StartDeploymentRequest(deployment=made)
        await self._platform.deployment.StartDeployment(request, **self._how)
        return made

    async def completed(self, release: str) -> str:
        """Complete a deployment in Dev and return its id."""
        made = await self.running(release)
        outcome = deployment.DEPLOYMENT_OUTCOME_COMPLETED
        request = deployment.FinishDeploymentRequest(deployment=made, outcome=outcome)
        await self._platform.deployment.FinishDeployment(request, **self._how)
        return made

    async def two_completed(self) -> str:
        """Complete two releases of a service, and return the id of the second deployment."""
        service = await self.service()
        await self.completed(await self.release(service, "1.0.0"))
        return await self.completed(await self.release(service, "2.0.0"))

    async def rolled_back(self) -> tuple[str, str]:
        """Roll a deployment back; return its id and that of the rollback."""
        subject = await self.two_completed()
        answer = await self._platform.deployment.ExecuteRollback(
            deployment.ExecuteRollbackRequest(deployment=subject, reason="corpus"), **self._how
        )
        return subject, str(answer.rollback.id)

    async def promoted(self) -> tuple[str, str]:
        """Promote a release to Dev; return the ids of the deployment and of its first stage."""
        release = await self.release(await self.service(), "1.0.0")
        answer = await self._platform.deployment.PromoteRelease(
            deployment.PromoteReleaseRequest(release=release, environment=DEV), **self._how
        )
        listed = await self._platform.deployment.ListPipelineStages(
            deployment.ListPipelineStagesRequest(deployment=answer.deployment.id), **self._how
        )
        return str(answer.deployment.id), str(listed.pipeline_stages[0].id)

    async def printing(self) -> str:
        """Promote a release to Dev, let its first stage print something, and return the id."""
        made, _ = await self.promoted()
        request = deployment.UpdatePipelineStageRequest(
            deployment=made, stage="build", status=deployment.STAGE_STATUS_IN_PROGRESS
        )
        await self._platform.deployment.UpdatePipelineStage(request, **self._how)
        printed = output.AppendStageOutputRequest(deployment=made, stage="build", text=PRINTED)
        await self._platform.output.AppendStageOutput(printed, **self._how)
        return made

    async def waiting(self) -> tuple[str, str]:
        """Have a developer ask for staging; return the ids of the deployment and of an approval."""
        release = await self.release(await self.service(), "1.0.0")
        await self.completed(release)
        developer = await self._platform.person("dev1")
        approvers = ["lead1", "lead2"]
        made = await self.pending(release, STAGING, approvers=approvers, metadata=developer)
        listed = await self._platform.deployment.ListApprovals(
            deployment.ListApprovalsRequest(deployment=made), **self._how
        )
        return made, str(listed.approvals[0].id)

    async def agreed(self) -> str:
        """Have a developer ask for staging, approve it, and return its id; it waits on."""
        made, _ = await self.waiting()
        request = deployment.ApproveDeploymentRequest(deployment=made)
        await self._platform.deployment.ApproveDeployment(request, **self._how)
        return made

    async def metric(self, of: str) -> str:
        """Record two metrics and return the id of one."""
        metrics = [
            deployment.NewDeploymentMetric(name=name, value=1.5, unit="ms")
            for name in ("latency", "errors")
        ]
        await self._platform.deployment.RecordDeploymentMetrics(
            deployment.RecordDeploymentMetricsRequest(deployment=of, metrics=metrics), **self._how
        )
        listed = await self._platform.deployment.ListDeploymentMetrics(
            deployment.ListDeploymentMetricsRequest(deployment=of), **self._how
        )
        return str(listed.deployment_metrics[0].id)

    async def runbooks(self, service: str) -> str:
        """Make two runbooks, so that there are two pages of one; return the id of the last."""
        for title in ("First", "Second"):
            request = catalog.CreateRunbookRequest(
                service=service, title=title, content="Look.", tags=["corpus"]
            )
            answer = await self._platform.catalog.CreateRunbook(request, **self._how)
        return str(answer.runbook.id)

    async def written(self, service: str) -> str:
        """Make a runbook with a published version, a draft and two executions; return its id."""
        request = catalog.CreateRunbookRequest(service=service, title="Written", content="Look.")
        made = (await self._platform.catalog.CreateRunbook(request, **self._how)).runbook.id
        publishing = catalog.PublishRunbookRequest(runbook=made)
        await self._platform.catalog.PublishRunbook(publishing, **self._how)
        update = catalog.UpdateRunbookRequest(runbook=made, content="Look again.")
        await self._platform.catalog.UpdateRunbook(update, **self._how)
        for outcome in (catalog.RUNBOOK_OUTCOME_SUCCEEDED, catalog.RUNBOOK_OUTCOME_FAILED):
            execution = catalog.RecordRunbookExecutionRequest(runbook=made, outcome=outcome)
            await self._platform.catalog.RecordRunbookExecution(execution, **self._how)
        return str(made)

    async def governed(self) -> str:
        """Make an environment with two policies, which nothing is deployed to; return its name."""
        environment = catalog.CreateEnvironmentRequest(
            name="Corpus Governed", type=catalog.ENVIRONMENT_TYPE_DEV, promotion_order=999
        )
        await self._platform.catalog.CreateEnvironment(environment, **self._how)
        for approvals in (1, 2):
            policy = deployment.Policy(required_approvals=approvals)
            request = deployment.PublishPolicyRequest(
                environment=environment.name, policy=policy, reason="corpus"
            )
            await self._platform.deployment.PublishPolicy(request, **self._how)
        return environment.name

    async def marked(self) -> str:
        """Make a release that is marked bad in Dev and everywhere, and return its name."""
        release = await self.release(await self.service(), "1.0.0")
        for environment in (DEV, ""):
            request = deployment.MarkReleaseBadRequest(
                release=release, environment=environment, reason="corpus"
            )
            await self._platform.deployment.MarkReleaseBad(request, **self._how)
        return release

    async def lock(self) -> str:
        """Lock two services that nothing else is about; return the id of one lock."""
        for _ in range(2):
            request = restrictions.CreateLockRequest(service=await self.service(), reason="corpus")
            answer = await self._platform.restrictions.CreateLock(request, **self._how)
        return str(answer.lock.id)

    async def overridden(self) -> str:
        """Let a pending deployment past two gates, and return its id."""
        made = await self.pending(await self.release(await self.service(), "1.0.0"))
        for gate in (
            restrictions.OVERRIDABLE_GATE_SOAK,
            restrictions.OVERRIDABLE_GATE_FREEZE,
        ):
            request = restrictions.OverrideGateRequest(deployment=made, gate=gate, reason="corpus")
            await self._platform.restrictions.OverrideGate(request, **self._how)
        return made

    async def window(self) -> str:
        """Make two freeze windows that keep nothing from starting; return the name of one."""
        about = (await self.service(), await self.service(), "Corpus Governed")
        for request in corpus_windows(*about):
            await self._platform.restrictions.CreateFreezeWindow(request, **self._how)
        return str(request.name)

    async def unused(self) -> Unused:
        """Make things that nothing refers to; the environment is beyond all others."""
        team = catalog.CreateTeamRequest(name="Corpus Unused")
        await self._platform.catalog.CreateTeam(team, **self._how)
        environment = catalog.CreateEnvironmentRequest(
            name="Corpus Unused", type=catalog.ENVIRONMENT_TYPE_DEV, promotion_order=1000
        )
        await self._platform.catalog.CreateEnvironment(environment, **self._how)
        user = identity.CreateUserRequest(
            username="corpus-unused",
            email="corpus-unused@example.com",
            role=access_pb2.ROLE_VIEWER,
            password="no-corpus-is-this-long",
        )
        await self._platform.identity.CreateUser(user, **self._how)
        return Unused(team.name, await self.service(), environment.name, user.username)

    async def hold(self) -> str:
        """Place two legal holds that cover nothing; return the name of one."""
        for name in ("corpus-other", "corpus"):
            await self._platform.retention.CreateLegalHold(
                retention.CreateLegalHoldRequest(
                    name=name, filter=audit.AuditLogFilter(action="corpus"), reason="corpus"
                ),
                **self._how,
            )
        return "corpus"

    async def everything(self, writer: Metadata) -> Made:
        """Make what the requests are about."""
        service = await self.service()
        runbook = await self.runbooks(service)
        completed = await self.two_completed()
        undone, rollback = await self.rolled_back()
        await self.rolled_back()
        staged, stage = await self.promoted()
        waiting, approval = await self.waiting()
        account = await add_program(self._platform.database_url, "corpus", "viewer", ())
        token = await self._platform.identity.CreateApiToken(
            identity.CreateApiTokenRequest(service_account="corpus", description="second"),
            **self._how,
        )
        assert token.api_token.id != str(account.token_id)
        logged = await self._platform.audit.LogAction(
            audit.LogActionRequest(event=event()), metadata=writer
        )
        return Made(
            draft=await self.release(service, "1.1.0", publish=False),
            published=await self.release(service, "1.0.0"),
            pending=await self.pending(await self.release(await self.service(), "1.0.0")),
            running=await self.running(await self.release(await self.service(), "1.0.0")),
            staged=staged,
            completed=completed,
            undone=undone,
            waiting=waiting,
            agreed=await self.agreed(),
            approval=approval,
            rollback=rollback,
            stage=stage,
            printing=await self.printing(),
            metric=await self.metric(completed),
            account="corpus",
            token=token.api_token.id,
            entry=logged.audit_log.id,
            hold=await self.hold(),
            runbook=runbook,
            written=await self.written(service),
            governed=await self.governed(),
            marked=await self.marked(),
            lock=await self.lock(),
            overridden=await self.overridden(),
            window=await self.window(),
            unused=await self.unused(),
        )


def event() -> audit.AuditEvent:
    """Return an event with every field that needs no id."""
    details = Struct()
    details.update({"ticket": "OPS-1", "size": 3})
    happened = Timestamp()
    happened.FromDatetime(datetime.now(UTC))
    return audit.AuditEvent(
        occurred_at=happened,
        user="dev1",
        action="create",
        resource_type="ticket",
        resource_id="OPS-1",
        details=details,
        ip_address="192.0.2.1",
        user_agent="corpus",
    )
