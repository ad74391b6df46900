"""From the results of changes to the answers of `deployment.v1`, without their audit receipt."""

from collections.abc import Sequence

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment import messages_resources as resources
from services.deployment.operations.details import Detail
from services.deployment.operations.roll_back import RolledBack
from services.deployment.operations.stages import StageChanged
from services.deployment.store.children import MetricRow
from shared.outbox.reconcile import Reconciliation


def created(value: Detail) -> pb.CreateDeploymentResponse:
    """Answer CreateDeployment."""
    return pb.CreateDeploymentResponse(deployment=resources.deployment(value))


def promoted(value: Detail) -> pb.PromoteReleaseResponse:
    """Answer PromoteRelease."""
    return pb.PromoteReleaseResponse(deployment=resources.deployment(value))


def rolled_back(value: RolledBack) -> pb.ExecuteRollbackResponse:
    """Answer ExecuteRollback."""
    return pb.ExecuteRollbackResponse(
        rollback=resources.rollback(value.rollback),
        deployment=resources.deployment(value.carrier),
    )


def approved(value: Detail) -> pb.ApproveDeploymentResponse:
    """Answer ApproveDeployment."""
    return pb.ApproveDeploymentResponse(deployment=resources.deployment(value))


def rejected(value: Detail) -> pb.RejectDeploymentResponse:
    """Answer RejectDeployment."""
    return pb.RejectDeploymentResponse(deployment=resources.deployment(value))


def revoked(value: Detail) -> pb.RevokeApprovalResponse:
    """Answer RevokeApproval."""
    return pb.RevokeApprovalResponse(deployment=resources.deployment(value))


def started(value: Detail) -> pb.StartDeploymentResponse:
    """Answer StartDeployment."""
    return pb.StartDeploymentResponse(deployment=resources.deployment(value))


def finished(value: Detail) -> pb.FinishDeploymentResponse:
    """Answer FinishDeployment."""
    return pb.FinishDeploymentResponse(deployment=resources.deployment(value))


def cancelled(value: Detail) -> pb.CancelDeploymentResponse:
    """Answer CancelDeployment."""
    return pb.CancelDeploymentResponse(deployment=resources.deployment(value))


def stage_updated(value: StageChanged) -> pb.UpdatePipelineStageResponse:
    """Answer UpdatePipelineStage."""
    return pb.UpdatePipelineStageResponse(
        stage=resources.stage(value.stage), deployment=resources.deployment(value.deployment)
    )


def recorded(value: Sequence[MetricRow]) -> pb.RecordDeploymentMetricsResponse:
    """Answer RecordDeploymentMetrics."""
    return pb.RecordDeploymentMetricsResponse(metrics=map(resources.metric, value))


def reconciled(value: Reconciliation) -> pb.ReconcileAuditResponse:
    """Answer ReconcileAudit."""
    return pb.ReconcileAuditResponse(
        aggregates=value.aggregates,
        missing=value.missing,
        resent=value.resent,
        missing_aggregates=value.missing_aggregates,
    )
