"""From what the operations return to the resources of `deployment.v1`."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment import messages_enums as enums
from services.deployment.messages_ids import id_text
from services.deployment.messages_overrides import of_deployment
from services.deployment.messages_times import timestamp
from services.deployment.operations.details import Detail
from services.deployment.operations.examine import Examined
from services.deployment.rules.gates import GateAnswer
from services.deployment.store.children import ApprovalRow, MetricRow, RollbackRow, StageRow
from shared.identity.actor import Role


def deployment(value: Detail) -> pb.Deployment:
    """Return a deployment with as much as was read of it."""
    case, row = value.case, value.case.dossier
    return pb.Deployment(
        id=str(row.id),
        status=enums.STATUS[row.status],
        kind=enums.KIND[row.kind],
        service_id=str(row.service_id),
        service=row.service,
        release_id=str(row.release_id),
        release=f"{row.service}@{row.version}",
        environment_id=str(row.environment_id),
        environment=row.environment,
        artifact_digest=row.artifact_digest,
        deployed_by_id=str(row.deployed_by),
        deployed_by=row.deployed_by_name,
        deployed_at=timestamp(row.deployed_at),
        started_at=timestamp(row.started_at),
        completed_at=timestamp(row.completed_at),
        approval_status=enums.APPROVAL_STATUS[case.approval_status],
        approvals_required=case.approval.required,
        approvals_given=case.approvals_given,
        decide_by=timestamp(case.decide_by),
        blockers=map(blocker, case.blockers),
        failure_cause=enums.CAUSE.get(row.failure_cause or "", 0),
        failure_class=enums.CLASS.get(row.failure_class or "", 0),
        status_reason=row.status_reason,
        touched_environment=row.touched_at is not None,
        rollback_of=id_text(row.rollback_of),
        rolled_back_by=id_text(row.rolled_back_by),
        superseded_by=id_text(row.superseded_by),
        allow_downgrade=row.allow_downgrade,
        not_before=timestamp(row.not_before),
        start_by=timestamp(row.start_by),
        stages=map(stage, value.stages),
        metrics=map(metric, value.metrics),
        approvals=map(approval, _approvals(case)) if value.with_approvals else (),
        rollbacks=map(rollback, value.rollbacks),
        etag=str(row.row_version),
        created_at=timestamp(row.created_at),
        updated_at=timestamp(row.updated_at),
        overrides=of_deployment(row),
        deadline=timestamp(case.deadline),
        lease=_lease(row.lease),
    )


def stage(value: StageRow) -> pb.PipelineStage:
    """Return a stage."""
    return pb.PipelineStage(
        id=str(value.id),
        deployment_id=str(value.deployment_id),
        name=value.name,
        order=value.stage_order,
        status=enums.STAGE_STATUS[value.status],
        output=value.output,
        started_at=timestamp(value.started_at),
        completed_at=timestamp(value.completed_at),
        attempt=value.attempt,
        reason=value.reason,
        output_bytes=value.printed,
        output_truncated=len(value.output.encode()) < value.printed,
    )


def approval(value: ApprovalRow) -> pb.Approval:
    """Return an approval."""
    role = value.approver_role
    return pb.Approval(
        id=str(value.id),
        deployment_id=str(value.deployment_id),
        approver_id=str(value.approver_id),
        approver=value.approver,
        status=enums.DECISION[value.status],
        comment=value.comment,
        decided_at=timestamp(value.decided_at),
        approver_role=None if role is None else Role.from_stored(role).value,  # type: ignore[arg-type]
        created_at=timestamp(value.created_at),
    )


def metric(value: MetricRow) -> pb.DeploymentMetric:
    """Return a figure."""
    return pb.DeploymentMetric(
        id=str(value.id),
        deployment_id=str(value.deployment_id),
        name=value.name,
        value=value.value,
        unit=value.unit,
        created_at=timestamp(value.created_at),
    )


def rollback(value: RollbackRow) -> pb.Rollback:
    """Return a rollback."""
    return pb.Rollback(
        id=str(value.id),
        deployment_id=str(value.deployment_id),
        rollback_deployment_id=str(value.rollback_deployment_id),
        status=enums.ROLLBACK_STATUS[value.status],
        reason=value.reason,
        from_release=f"{value.service}@{value.from_version}",
        to_release=f"{value.service}@{value.to_version}",
        initiated_by_id=str(value.initiated_by),
        initiated_by=value.initiated_by_name,
        completed_at=timestamp(value.completed_at),
        created_at=timestamp(value.created_at),
    )


def blocker(answer: GateAnswer) -> pb.Blocker:
    """Return what a gate says."""
    return pb.Blocker(
        gate=answer.gate,
        status=enums.GATE[answer.status],
        reason=answer.why,
        remedy=answer.unblock,
        people=answer.people,
        earliest=timestamp(answer.earliest),
        position=answer.position,
    )


def _lease(value: Mapping[str, Any] | None) -> pb.DeploymentLease | None:
    if value is None:
        return None
    return pb.DeploymentLease(
        executor=value["executor"],
        holder_id=value["holder_id"],
        holder=value["holder"],
        claimed_at=timestamp(datetime.fromisoformat(value["claimed_at"])),
        expires_at=timestamp(datetime.fromisoformat(value["expires_at"])),
    )


def _approvals(case: Examined) -> list[ApprovalRow]:
    return [
        ApprovalRow(
            id=UUID(row["id"]),
            deployment_id=case.dossier.id,
            approver_id=UUID(row["approver_id"]),
            approver=row["username"],
            status=row["status"],
            comment=row["comment"],
            decided_at=row["decided_at"] and datetime.fromisoformat(row["decided_at"]),
            approver_role=row["approver_role"],
            created_at=datetime.fromisoformat(row["created_at"]),
        )
        for row in case.dossier.approvals
    ]
