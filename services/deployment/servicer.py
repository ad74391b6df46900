"""The RPCs of DeploymentService: convert, call, convert."""

from typing import Any
from uuid import UUID

from grpc.aio import ServicerContext
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import deployment_pb2_grpc

from services.deployment import messages_answers as answers
from services.deployment import messages_requests as commands
from services.deployment import messages_resources as resources
from services.deployment.operations import (
    board,
    decide,
    details,
    execute,
    inspect,
    metrics,
    roll_back,
    stages,
)
from services.deployment.operations import (
    request as requests,
)
from shared.db.engine import Database
from shared.outbox.change import Changes
from shared.outbox.reconcile import Reconciler
from shared.rpc.pages import Paging

Context = ServicerContext[Any, Any]


class DeploymentServicer(deployment_pb2_grpc.DeploymentServiceServicer):
    """Deploys, approves, drives, rolls back, and tells what runs where."""

    def __init__(
        self, db: Database, changes: Changes, paging: Paging, reconciler: Reconciler
    ) -> None:
        """Read from `db`, change through `changes`."""
        self._db = db
        self._changes = changes
        self._paging = paging
        self._reconciler = reconciler

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

    async def GetDeployment(
        self, request: pb.GetDeploymentRequest, _: Context
    ) -> pb.GetDeploymentResponse:
        """Return a deployment."""
        found = await details.read(self._db, UUID(request.deployment), commands.depth(request))
        return pb.GetDeploymentResponse(deployment=resources.deployment(found))

    async def ListDeployments(
        self, request: pb.ListDeploymentsRequest, _: Context
    ) -> pb.ListDeploymentsResponse:
        """Return a page of deployments."""
        query = commands.deployments(request, self._paging.wanted(request))
        page = await inspect.deployments(self._db, query)
        return pb.ListDeploymentsResponse(
            deployments=map(resources.deployment, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def GetApproval(
        self, request: pb.GetApprovalRequest, _: Context
    ) -> pb.GetApprovalResponse:
        """Return an approval."""
        found = await inspect.approval(self._db, UUID(request.approval))
        return pb.GetApprovalResponse(approval=resources.approval(found))

    async def ListApprovals(
        self, request: pb.ListApprovalsRequest, _: Context
    ) -> pb.ListApprovalsResponse:
        """Return a page of approvals."""
        query = commands.approvals(request, self._paging.wanted(request))
        page = await inspect.approvals(self._db, query)
        return pb.ListApprovalsResponse(
            approvals=map(resources.approval, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def GetRollback(
        self, request: pb.GetRollbackRequest, _: Context
    ) -> pb.GetRollbackResponse:
        """Return a rollback."""
        found = await inspect.rollback(self._db, UUID(request.rollback))
        return pb.GetRollbackResponse(rollback=resources.rollback(found))

    async def ListRollbacks(
        self, request: pb.ListRollbacksRequest, _: Context
    ) -> pb.ListRollbacksResponse:
        """Return a page of rollbacks."""
        query = commands.rollbacks(request, self._paging.wanted(request))
        page = await inspect.rollbacks(self._db, query)
        return pb.ListRollbacksResponse(
            rollbacks=map(resources.rollback, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def GetPipelineStage(
        self, request: pb.GetPipelineStageRequest, _: Context
    ) -> pb.GetPipelineStageResponse:
        """Return a stage."""
        found = await inspect.stage(self._db, UUID(request.pipeline_stage))
        return pb.GetPipelineStageResponse(pipeline_stage=resources.stage(found))

    async def ListPipelineStages(
        self, request: pb.ListPipelineStagesRequest, _: Context
    ) -> pb.ListPipelineStagesResponse:
        """Return a page of the stages of a deployment."""
        wanted = self._paging.wanted(request)
        page = await inspect.stages(self._db, wanted, UUID(request.deployment))
        return pb.ListPipelineStagesResponse(
            pipeline_stages=map(resources.stage, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def GetDeploymentMetric(
        self, request: pb.GetDeploymentMetricRequest, _: Context
    ) -> pb.GetDeploymentMetricResponse:
        """Return a figure."""
        found = await inspect.metric(self._db, UUID(request.deployment_metric))
        return pb.GetDeploymentMetricResponse(deployment_metric=resources.metric(found))

    async def ListDeploymentMetrics(
        self, request: pb.ListDeploymentMetricsRequest, _: Context
    ) -> pb.ListDeploymentMetricsResponse:
        """Return a page of figures."""
        page = await inspect.metrics(
            self._db,
            self._paging.wanted(request),
            deployment_id=commands.optional_id(request.deployment),
            name=request.name or None,
        )
        return pb.ListDeploymentMetricsResponse(
            deployment_metrics=map(resources.metric, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def GetEnvironmentStatus(
        self, request: pb.GetEnvironmentStatusRequest, _: Context
    ) -> pb.GetEnvironmentStatusResponse:
        """Return one cell of the board."""
        found = await board.cell(self._db, request.service, request.environment)
        return pb.GetEnvironmentStatusResponse(status=resources.environment_status(found))

    async def ListEnvironmentStatuses(
        self, request: pb.ListEnvironmentStatusesRequest, _: Context
    ) -> pb.ListEnvironmentStatusesResponse:
        """Return a page of the board."""
        query = commands.board(request, self._paging.wanted(request))
        page = await board.cells(self._db, query)
        return pb.ListEnvironmentStatusesResponse(
            statuses=map(resources.environment_status, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def ReconcileAudit(
        self, _request: pb.ReconcileAuditRequest, _: Context
    ) -> pb.ReconcileAuditResponse:
        """Compare every deployment with the ledger."""
        return answers.reconciled(await self._reconciler.reconcile())
