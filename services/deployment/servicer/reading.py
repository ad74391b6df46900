"""The RPCs that read deployments and what belongs to them: convert, call, convert."""

from uuid import UUID

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment import messages_requests as commands
from services.deployment import messages_resources as resources
from services.deployment.messages_ids import optional_id
from services.deployment.operations import details, inspect
from shared.outbox.rpcs import Context, Rpcs


class ReadingRpcs(Rpcs):
    """Tells what runs where, and how it came about."""

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
            deployment_id=optional_id(request.deployment),
            name=request.name or None,
        )
        return pb.ListDeploymentMetricsResponse(
            deployment_metrics=map(resources.metric, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )
