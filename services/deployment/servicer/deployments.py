"""The RPCs that change deployments: convert, call, convert."""

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment import messages_answers as answers
from services.deployment import messages_requests as commands
from services.deployment.operations import (
    decide,
    execute,
    metrics,
    roll_back,
    stages,
)
from services.deployment.operations import (
    request as requests,
)
from shared.outbox.rpcs import Context, Rpcs


class DeploymentRpcs(Rpcs):
    """Deploys, approves, drives and rolls back."""

    async def CreateDeployment(
        self, request: pb.CreateDeploymentRequest, _: Context
    ) -> pb.CreateDeploymentResponse:
        """Request a deployment without a pipeline."""
        return await self._changes.answer(
            request,
            pb.CreateDeploymentResponse,
            lambda change: requests.create(change, commands.new_deployment(request)),
            answers.created,
        )

    async def PromoteRelease(
        self, request: pb.PromoteReleaseRequest, _: Context
    ) -> pb.PromoteReleaseResponse:
        """Request a deployment with the five stages."""
        return await self._changes.answer(
            request,
            pb.PromoteReleaseResponse,
            lambda change: requests.promote(change, commands.new_deployment(request)),
            answers.promoted,
        )

    async def ExecuteRollback(
        self, request: pb.ExecuteRollbackRequest, _: Context
    ) -> pb.ExecuteRollbackResponse:
        """Undo a deployment."""
        return await self._changes.answer(
            request,
            pb.ExecuteRollbackResponse,
            lambda change: roll_back.execute(change, commands.roll_back(request)),
            answers.rolled_back,
        )

    async def ApproveDeployment(
        self, request: pb.ApproveDeploymentRequest, _: Context
    ) -> pb.ApproveDeploymentResponse:
        """Approve a waiting deployment as the caller."""
        return await self._changes.answer(
            request,
            pb.ApproveDeploymentResponse,
            lambda change: decide.approve(change, commands.decision(request)),
            answers.approved,
        )

    async def RejectDeployment(
        self, request: pb.RejectDeploymentRequest, _: Context
    ) -> pb.RejectDeploymentResponse:
        """Reject a waiting deployment as the caller."""
        return await self._changes.answer(
            request,
            pb.RejectDeploymentResponse,
            lambda change: decide.reject(change, commands.decision(request)),
            answers.rejected,
        )

    async def RevokeApproval(
        self, request: pb.RevokeApprovalRequest, _: Context
    ) -> pb.RevokeApprovalResponse:
        """Take back the caller's approval of a waiting deployment."""
        return await self._changes.answer(
            request,
            pb.RevokeApprovalResponse,
            lambda change: decide.revoke(change, commands.revocation(request)),
            answers.revoked,
        )

    async def StartDeployment(
        self, request: pb.StartDeploymentRequest, _: Context
    ) -> pb.StartDeploymentResponse:
        """Start a deployment without stages."""
        return await self._changes.answer(
            request,
            pb.StartDeploymentResponse,
            lambda change: execute.start(change, commands.start(request)),
            answers.started,
        )

    async def FinishDeployment(
        self, request: pb.FinishDeploymentRequest, _: Context
    ) -> pb.FinishDeploymentResponse:
        """End a deployment without stages."""
        return await self._changes.answer(
            request,
            pb.FinishDeploymentResponse,
            lambda change: execute.finish(change, commands.finish(request)),
            answers.finished,
        )

    async def CancelDeployment(
        self, request: pb.CancelDeploymentRequest, _: Context
    ) -> pb.CancelDeploymentResponse:
        """Stop a deployment."""
        return await self._changes.answer(
            request,
            pb.CancelDeploymentResponse,
            lambda change: execute.cancel(change, commands.cancel(request)),
            answers.cancelled,
        )

    async def UpdatePipelineStage(
        self, request: pb.UpdatePipelineStageRequest, _: Context
    ) -> pb.UpdatePipelineStageResponse:
        """Take in what became of a stage."""
        return await self._changes.answer(
            request,
            pb.UpdatePipelineStageResponse,
            lambda change: stages.update(change, commands.stage_report(request)),
            answers.stage_updated,
        )

    async def RecordDeploymentMetrics(
        self, request: pb.RecordDeploymentMetricsRequest, _: Context
    ) -> pb.RecordDeploymentMetricsResponse:
        """Add figures to a deployment."""
        return await self._changes.answer(
            request,
            pb.RecordDeploymentMetricsResponse,
            lambda change: metrics.record(change, commands.figures(request)),
            answers.recorded,
        )
