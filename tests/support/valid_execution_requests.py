"""Valid requests of the execution service, on deployments that are claimed, stopping and paused."""

from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from release_manager.catalog.v1 import catalog_pb2 as catalog
from release_manager.deployment.v1 import deployment_pb2 as deployment
from release_manager.deployment.v1 import execution_pb2 as execution
from release_manager.deployment.v1 import restrictions_pb2 as restrictions

from tests.support.platform import Platform
from tests.support.raw_calls import Metadata
from tests.support.things_made import DEV, Maker

# Beyond all environments that anything is promoted through.
HALTING: Final = "Corpus Halting"
HOUR, DAY = Duration(seconds=3_600), Duration(seconds=86_400)


class Executions:
    """Makes deployments in the states that executors and people who intervene meet."""

    def __init__(self, platform: Platform, admin: Metadata, maker: Maker) -> None:
        self._platform = platform
        self._maker = maker
        self._how: dict[str, Any] = {"metadata": admin}

    async def environment(self) -> None:
        """Make an environment where a failure pauses, and stopping may take long."""
        environment = catalog.CreateEnvironmentRequest(
            name=HALTING, type=catalog.ENVIRONMENT_TYPE_DEV, promotion_order=998
        )
        await self._platform.catalog.CreateEnvironment(environment, **self._how)
        policy = deployment.Policy(on_failure=deployment.ON_FAILURE_PAUSE, cancel_timeout=DAY)
        publish = deployment.PublishPolicyRequest(
            environment=HALTING, policy=policy, reason="corpus"
        )
        await self._platform.deployment.PublishPolicy(publish, **self._how)

    async def promoted(self, environment: str) -> str:
        """Request a deployment with stages, whatever was before it, and return its id."""
        override = deployment.NewOverride(
            gate=restrictions.OVERRIDABLE_GATE_PROMOTION_ORDER, reason="corpus"
        )
        request = deployment.PromoteReleaseRequest(
            release=await self._maker.release(await self._maker.service(), "1.0.0"),
            environment=environment,
            overrides=[override] if environment == HALTING else [],
        )
        answer = await self._platform.deployment.PromoteRelease(request, **self._how)
        return str(answer.deployment.id)

    async def claimed(self, made: str) -> str:
        """Claim a deployment and return the token."""
        request = execution.ClaimDeploymentRequest(
            deployment=made, executor="corpus", lease_duration=HOUR
        )
        answer = await self._platform.execution.ClaimDeployment(request, **self._how)
        return str(answer.lease_token)

    async def report(self, made: str, stage: str, status: Any, token: str = "") -> None:
        """Report a stage."""
        request = deployment.UpdatePipelineStageRequest(
            deployment=made, stage=stage, status=status, lease_token=token
        )
        await self._platform.deployment.UpdatePipelineStage(request, **self._how)

    async def stopping(self) -> tuple[str, str]:
        """Return a deployment that its executor is to stop, and the token."""
        made = await self.promoted(HALTING)
        token = await self.claimed(made)
        await self.report(made, "build", deployment.STAGE_STATUS_IN_PROGRESS, token)
        cancel = deployment.CancelDeploymentRequest(deployment=made, reason="corpus")
        await self._platform.deployment.CancelDeployment(cancel, **self._how)
        return made, token

    async def paused(self) -> str:
        """Return a deployment that is paused on its second stage."""
        made = await self.promoted(HALTING)
        await self.report(made, "build", deployment.STAGE_STATUS_COMPLETED)
        await self.report(made, "test", deployment.STAGE_STATUS_FAILED)
        return made


async def execution_requests(
    platform: Platform, admin: Metadata, maker: Maker
) -> dict[str, Message]:
    """Return a request for each method of the service, by its name."""
    executions = Executions(platform, admin, maker)
    await executions.environment()
    free = await executions.promoted(DEV)
    claimed = await executions.promoted(DEV)
    lease = {"deployment": claimed, "lease_token": await executions.claimed(claimed)}
    stopping, token = await executions.stopping()
    # Each of these ends the pause.
    retried, ignored, failed = [await executions.paused() for _ in range(3)]
    order: dict[str, Any] = {"validate_only": True}
    return {
        "ClaimDeployment": execution.ClaimDeploymentRequest(
            deployment=free, executor="corpus", lease_duration=HOUR, validate_only=True
        ),
        "RenewLease": execution.RenewLeaseRequest(**lease, validate_only=True),
        "ReleaseLease": execution.ReleaseLeaseRequest(**lease, validate_only=True),
        "ConfirmCancelled": execution.ConfirmCancelledRequest(
            deployment=stopping, lease_token=token, validate_only=True
        ),
        "RetryStage": execution.RetryStageRequest(**order, deployment=retried, stage="test"),
        "IgnoreStage": execution.IgnoreStageRequest(
            **order, deployment=ignored, stage="test", reason="corpus"
        ),
        "SkipStage": execution.SkipStageRequest(
            **order, deployment=retried, stage="deploy", reason="corpus"
        ),
        "FailDeployment": execution.FailDeploymentRequest(
            **order,
            deployment=failed,
            reason="corpus",
            failure_class=deployment.FAILURE_CLASS_ERRORED,
        ),
        "ListStageAttempts": execution.ListStageAttemptsRequest(deployment=retried),
    }
