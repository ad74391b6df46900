"""From the requests of `deployment.v1` to commands and queries."""

from typing import Final
from uuid import UUID

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment.messages_enums import (
    DECISION_WORD,
    KIND_WORD,
    ROLLBACK_STATUS_WORD,
    STAGE_STATUS_WORD,
    STATUS_WORD,
)
from services.deployment.messages_ids import optional_id
from services.deployment.messages_overrides import new_overrides
from services.deployment.messages_times import moment
from services.deployment.operations.asking import NewDeployment
from services.deployment.operations.decide import DecisionCommand, RevokeCommand
from services.deployment.operations.details import Depth
from services.deployment.operations.execute import Cancel, Finish, Start
from services.deployment.operations.inspect import ApprovalsQuery, DeploymentsQuery, RollbacksQuery
from services.deployment.operations.metrics import Figure, RecordFigures
from services.deployment.operations.planning import RollBack
from services.deployment.operations.stages import StageReport
from services.deployment.rules.lifecycle import FailureClass
from services.deployment.rules.stages import StageStatus
from services.deployment.store.fields import Expressions
from shared.db.keyset import PageRequest

_FAILURES: Final = {
    pb.DEPLOYMENT_OUTCOME_COMPLETED: None,
    pb.DEPLOYMENT_OUTCOME_FAILED: FailureClass.FAILED,
    pb.DEPLOYMENT_OUTCOME_ERRORED: FailureClass.ERRORED,
}
_DEPTHS: Final = {
    pb.DEPLOYMENT_VIEW_UNSPECIFIED: Depth.ALONE,
    pb.DEPLOYMENT_VIEW_BASIC: Depth.ALONE,
    pb.DEPLOYMENT_VIEW_STAGES: Depth.STAGES,
    pb.DEPLOYMENT_VIEW_FULL: Depth.EVERYTHING,
}


def new_deployment(request: pb.CreateDeploymentRequest | pb.PromoteReleaseRequest) -> NewDeployment:
    """Return the deployment that a request asks for."""
    return NewDeployment(
        release=request.release,
        environment=request.environment,
        approvers=tuple(request.approvers),
        allow_downgrade=request.allow_downgrade,
        fail_if_blocked=request.fail_if_blocked,
        not_before=moment(request, "not_before"),
        start_by=moment(request, "start_by"),
        overrides=new_overrides(request.overrides),
    )


def roll_back(request: pb.ExecuteRollbackRequest) -> RollBack:
    """Return the rollback that a request asks for."""
    return RollBack(
        deployment_id=UUID(request.deployment),
        reason=request.reason,
        target_release=request.target_release,
        preempt=request.preempt,
        cross_irreversible=request.cross_irreversible,
        etag=request.etag,
    )


def decision(
    request: pb.ApproveDeploymentRequest | pb.RejectDeploymentRequest,
) -> DecisionCommand:
    """Return what a request decides about."""
    return DecisionCommand(UUID(request.deployment), request.comment, request.etag)


def revocation(request: pb.RevokeApprovalRequest) -> RevokeCommand:
    """Return what a request takes back."""
    return RevokeCommand(UUID(request.deployment), request.reason, request.etag)


def start(request: pb.StartDeploymentRequest) -> Start:
    """Return what a request starts."""
    return Start(UUID(request.deployment), request.etag, optional_id(request.lease_token))


def finish(request: pb.FinishDeploymentRequest) -> Finish:
    """Return how a request ends a deployment."""
    return Finish(
        deployment_id=UUID(request.deployment),
        failure=_FAILURES[request.outcome],
        reason=request.reason,
        etag=request.etag,
        lease_token=optional_id(request.lease_token),
    )


def cancel(request: pb.CancelDeploymentRequest) -> Cancel:
    """Return what a request stops."""
    return Cancel(UUID(request.deployment), request.reason, request.etag)


def stage_report(request: pb.UpdatePipelineStageRequest) -> StageReport:
    """Return what a request reports of a stage."""
    return StageReport(
        deployment_id=UUID(request.deployment),
        stage=request.stage,
        status=StageStatus(STAGE_STATUS_WORD[request.status]),
        output=request.output if request.HasField("output") else None,
        etag=request.etag,
        lease_token=optional_id(request.lease_token),
    )


def figures(request: pb.RecordDeploymentMetricsRequest) -> RecordFigures:
    """Return the figures that a request adds."""
    given = (Figure(metric.name, metric.value, metric.unit) for metric in request.metrics)
    return RecordFigures(UUID(request.deployment), tuple(given))


def depth(request: pb.GetDeploymentRequest) -> Depth:
    """Return how much of a deployment a request asks for."""
    return _DEPTHS[request.view]


def deployments(request: pb.ListDeploymentsRequest, page: PageRequest) -> DeploymentsQuery:
    """Return which deployments a request asks for."""
    return DeploymentsQuery(
        page=page,
        service=request.service,
        environment=request.environment,
        release=request.release,
        deployed_by=request.deployed_by,
        status=STATUS_WORD.get(request.status),
        kind=KIND_WORD.get(request.kind),
        asked=_expressions(request),
    )


def approvals(request: pb.ListApprovalsRequest, page: PageRequest) -> ApprovalsQuery:
    """Return which approvals a request asks for."""
    return ApprovalsQuery(
        page=page,
        deployment_id=optional_id(request.deployment),
        approver=request.approver,
        status=DECISION_WORD.get(request.status),
        asked=_expressions(request),
    )


def rollbacks(request: pb.ListRollbacksRequest, page: PageRequest) -> RollbacksQuery:
    """Return which rollbacks a request asks for."""
    return RollbacksQuery(
        page=page,
        deployment_id=optional_id(request.deployment),
        service=request.service,
        environment=request.environment,
        status=ROLLBACK_STATUS_WORD.get(request.status),
        asked=_expressions(request),
    )


def _expressions(
    request: pb.ListDeploymentsRequest | pb.ListApprovalsRequest | pb.ListRollbacksRequest,
) -> Expressions:
    return Expressions(request.filter, request.order_by)
