"""Between the messages of `ExecutionService` and the values of this service."""

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from release_manager.deployment.v1 import deployment_pb2
from release_manager.deployment.v1 import execution_pb2 as pb

from services.deployment import messages_resources as resources
from services.deployment.messages_enums import STAGE_STATUS, STATUS
from services.deployment.messages_ids import id_text
from services.deployment.messages_times import timestamp
from services.deployment.operations.attempts import AttemptsQuery
from services.deployment.operations.claims import Claim, Claimed, Held, Renewed
from services.deployment.operations.details import Detail
from services.deployment.operations.interventions import GiveUp, StageOrder
from services.deployment.operations.stages import StageChanged
from services.deployment.rules.leases import USUAL
from services.deployment.rules.lifecycle import FailureClass
from services.deployment.store.attempts import AttemptRow
from shared.db.keyset import PageRequest

_CLASSES: Final = {
    deployment_pb2.FAILURE_CLASS_FAILED: FailureClass.FAILED,
    deployment_pb2.FAILURE_CLASS_ERRORED: FailureClass.ERRORED,
}


def claim(request: pb.ClaimDeploymentRequest) -> Claim:
    """Return what a request claims; a lease is in whole seconds."""
    duration = USUAL
    if request.HasField("lease_duration"):
        duration = timedelta(seconds=request.lease_duration.seconds)
    return Claim(UUID(request.deployment), request.executor, duration, request.etag)


def held(
    request: pb.RenewLeaseRequest | pb.ReleaseLeaseRequest | pb.ConfirmCancelledRequest,
) -> Held:
    """Return the lease that a request is about."""
    return Held(
        UUID(request.deployment),
        UUID(request.lease_token),
        reason=getattr(request, "reason", ""),
        etag=getattr(request, "etag", ""),
    )


def order(
    request: pb.RetryStageRequest | pb.IgnoreStageRequest | pb.SkipStageRequest,
) -> StageOrder:
    """Return what a request wants of a stage."""
    reason = getattr(request, "reason", "")
    return StageOrder(UUID(request.deployment), request.stage, reason, request.etag)


def give_up(request: pb.FailDeploymentRequest) -> GiveUp:
    """Return what a request gives up on."""
    failure = _CLASSES[request.failure_class]
    return GiveUp(UUID(request.deployment), request.reason, failure, request.etag)


def attempts(request: pb.ListStageAttemptsRequest, page: PageRequest) -> AttemptsQuery:
    """Return which attempts a request asks for."""
    return AttemptsQuery(page, UUID(request.deployment), request.stage or None)


def claimed(value: Claimed | None) -> pb.ClaimDeploymentResponse:
    """Answer ClaimDeployment; None is never sent, because the call is refused then."""
    if value is None:
        return pb.ClaimDeploymentResponse()
    return pb.ClaimDeploymentResponse(
        lease_token=str(value.lease.token),
        expires_at=timestamp(value.lease.expires_at),
        deployment=resources.deployment(value.deployment),
    )


def renewed(value: Renewed | None) -> pb.RenewLeaseResponse:
    """Answer RenewLease; None is never sent, because the call is refused then."""
    if value is None:
        return pb.RenewLeaseResponse()
    return pb.RenewLeaseResponse(
        expires_at=timestamp(value.expires_at),
        status=STATUS[value.status],
        cancel_by=timestamp(value.deadline),
    )


def released(value: Detail | None) -> pb.ReleaseLeaseResponse:
    """Answer ReleaseLease."""
    return pb.ReleaseLeaseResponse(deployment=_deployment(value))


def confirmed(value: Detail | None) -> pb.ConfirmCancelledResponse:
    """Answer ConfirmCancelled."""
    return pb.ConfirmCancelledResponse(deployment=_deployment(value))


def retried(value: StageChanged) -> pb.RetryStageResponse:
    """Answer RetryStage."""
    return pb.RetryStageResponse(**_stage(value))


def ignored(value: StageChanged) -> pb.IgnoreStageResponse:
    """Answer IgnoreStage."""
    return pb.IgnoreStageResponse(**_stage(value))


def skipped(value: StageChanged | None) -> pb.SkipStageResponse:
    """Answer SkipStage."""
    return pb.SkipStageResponse(**_stage(value))


def failed(value: Detail) -> pb.FailDeploymentResponse:
    """Answer FailDeployment."""
    return pb.FailDeploymentResponse(deployment=_deployment(value))


def attempt(value: AttemptRow) -> pb.StageAttempt:
    """Return an attempt."""
    return pb.StageAttempt(
        stage_id=str(value.stage_id),
        stage=value.stage,
        attempt=value.attempt,
        status=STAGE_STATUS[value.status],
        output=value.output,
        executor=value.executor,
        started_by_id=id_text(value.started_by),
        started_by=value.started_by_name or "",
        ended_by_id=id_text(value.ended_by),
        ended_by=value.ended_by_name or "",
        reason=value.reason,
        started_at=timestamp(value.started_at),
        completed_at=timestamp(value.completed_at),
    )


def _deployment(value: Detail | None) -> deployment_pb2.Deployment | None:
    """Return a deployment; a refused call has none."""
    return None if value is None else resources.deployment(value)


def _stage(value: StageChanged | None) -> dict[str, Any]:
    if value is None:
        return {}
    return {
        "stage": resources.stage(value.stage),
        "deployment": resources.deployment(value.deployment),
    }
