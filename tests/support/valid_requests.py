"""A valid request for every RPC, on things made for that purpose, in the state that it needs.

Requests that would change something only rehearse it (`validate_only`), so that each can be sent
any number of times and always finds the same state.
"""

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.audit.v1 import audit_pb2 as audit
from release_manager.audit.v1 import retention_pb2 as retention
from release_manager.deployment.v1 import deployment_pb2 as deployment
from release_manager.deployment.v1 import insights_pb2 as insights
from release_manager.deployment.v1 import output_pb2 as output
from release_manager.deployment.v1 import restrictions_pb2 as restrictions
from release_manager.identity.v1 import identity_pb2 as identity

from tests.support.platform import (
    AUDIT,
    CATALOG,
    DEPLOYMENT,
    EXECUTION,
    IDENTITY,
    INSIGHTS,
    NOTIFICATIONS,
    OUTPUT,
    RESTRICTIONS,
    RETENTION,
    Platform,
)
from tests.support.raw_calls import Metadata
from tests.support.things_made import DEV, PRINTED, Made, Maker, event
from tests.support.valid_catalog_requests import catalog_requests
from tests.support.valid_execution_requests import execution_requests
from tests.support.valid_identity_requests import identity_requests
from tests.support.valid_notification_requests import notification_requests


async def valid_requests(
    platform: Platform, admin: Metadata, writer: Metadata
) -> Mapping[str, Message]:
    """Return a request that each method accepts, by the method's full name."""
    maker = Maker(platform, admin)
    made = await maker.everything(writer)
    groups = {
        AUDIT: _audit(made),
        RETENTION: _retention(made),
        NOTIFICATIONS: await notification_requests(platform, admin),
        IDENTITY: identity_requests(made, await _session_of(platform, admin)),
        CATALOG: catalog_requests(made),
        DEPLOYMENT: _deployment(made)
        | _deployment_reads(made)
        | _explaining(made)
        | _policies_and_marks(made),
        INSIGHTS: _insights(),
        OUTPUT: _output(made),
        EXECUTION: await execution_requests(platform, admin, maker),
        RESTRICTIONS: _locks_and_overrides(made) | _freezes(made),
    }
    return {
        f"/{service}/{name}": request
        for service, requests in groups.items()
        for name, request in requests.items()
    }


async def _session_of(platform: Platform, admin: Metadata) -> str:
    """Return one of two sessions of the admin; it is only rehearsed to end."""
    await platform.log_in("admin")
    answer = await platform.identity.ListSessions(identity.ListSessionsRequest(), metadata=admin)
    return str(answer.sessions[0].id)


def _audit(made: Made) -> dict[str, Message]:
    return {
        "LogAction": audit.LogActionRequest(event=event()),
        "LogActions": audit.LogActionsRequest(events=[event()]),
        "GetAuditLog": audit.GetAuditLogRequest(id=made.entry),
        "ListAuditLogs": audit.ListAuditLogsRequest(),
        "ExportAuditLogs": audit.ExportAuditLogsRequest(
            filter=audit.AuditLogFilter(resource_type="ticket")
        ),
        "FollowAuditLogs": audit.FollowAuditLogsRequest(
            filter=audit.AuditLogFilter(resource_type="ticket"), from_index=0
        ),
        "GetCheckpoint": audit.GetCheckpointRequest(),
        "GetInclusionProof": audit.GetInclusionProofRequest(id=made.entry),
        "GetConsistencyProof": audit.GetConsistencyProofRequest(from_size=1),
        "GetTile": audit.GetTileRequest(width=1),
        "VerifyLedger": audit.VerifyLedgerRequest(),
        "GetAggregateSequences": audit.GetAggregateSequencesRequest(aggregates=["team:1"]),
    }


def _retention(made: Made) -> dict[str, Message]:
    return {
        "RedactAuditLog": retention.RedactAuditLogRequest(
            id=made.entry, fields=["user_agent"], reason="corpus", validate_only=True
        ),
        # No month of the seed is old enough.
        "RetireAuditLogs": retention.RetireAuditLogsRequest(
            month="2020-02", reason="corpus", validate_only=True
        ),
        "CreateLegalHold": retention.CreateLegalHoldRequest(
            name="corpus-new", reason="corpus", validate_only=True
        ),
        "ReleaseLegalHold": retention.ReleaseLegalHoldRequest(
            legal_hold=made.hold, reason="corpus", validate_only=True
        ),
        "ListLegalHolds": retention.ListLegalHoldsRequest(),
    }


def _deployment(made: Made) -> dict[str, Message]:
    override = deployment.NewOverride(gate=restrictions.OVERRIDABLE_GATE_QUEUE, reason="corpus")
    return {
        "CreateDeployment": deployment.CreateDeploymentRequest(
            release=made.published, environment=DEV, overrides=[override], validate_only=True
        ),
        "PromoteRelease": deployment.PromoteReleaseRequest(
            release=made.published, environment=DEV, overrides=[override], validate_only=True
        ),
        "ExecuteRollback": deployment.ExecuteRollbackRequest(
            deployment=made.completed, reason="corpus", validate_only=True
        ),
        "ApproveDeployment": deployment.ApproveDeploymentRequest(
            deployment=made.waiting, validate_only=True
        ),
        "RejectDeployment": deployment.RejectDeploymentRequest(
            deployment=made.waiting, comment="corpus", validate_only=True
        ),
        "RevokeApproval": deployment.RevokeApprovalRequest(
            deployment=made.agreed, reason="corpus", validate_only=True
        ),
        "StartDeployment": deployment.StartDeploymentRequest(
            deployment=made.pending, validate_only=True
        ),
        "FinishDeployment": deployment.FinishDeploymentRequest(
            deployment=made.running,
            outcome=deployment.DEPLOYMENT_OUTCOME_COMPLETED,
            validate_only=True,
        ),
        "CancelDeployment": deployment.CancelDeploymentRequest(
            deployment=made.pending, reason="corpus", validate_only=True
        ),
        "UpdatePipelineStage": deployment.UpdatePipelineStageRequest(
            deployment=made.staged,
            stage="build",
            status=deployment.STAGE_STATUS_IN_PROGRESS,
            validate_only=True,
        ),
        "RecordDeploymentMetrics": deployment.RecordDeploymentMetricsRequest(
            deployment=made.completed,
            metrics=[deployment.NewDeploymentMetric(name="latency", value=1.5, unit="ms")],
            validate_only=True,
        ),
    }


def _deployment_reads(made: Made) -> dict[str, Message]:
    service = made.published.partition("@")[0]
    return {
        "GetDeployment": deployment.GetDeploymentRequest(deployment=made.completed),
        "ListDeployments": deployment.ListDeploymentsRequest(),
        "GetApproval": deployment.GetApprovalRequest(approval=made.approval),
        "ListApprovals": deployment.ListApprovalsRequest(),
        "GetRollback": deployment.GetRollbackRequest(rollback=made.rollback),
        "ListRollbacks": deployment.ListRollbacksRequest(),
        "GetPipelineStage": deployment.GetPipelineStageRequest(pipeline_stage=made.stage),
        "ListPipelineStages": deployment.ListPipelineStagesRequest(deployment=made.staged),
        "GetDeploymentMetric": deployment.GetDeploymentMetricRequest(deployment_metric=made.metric),
        "ListDeploymentMetrics": deployment.ListDeploymentMetricsRequest(deployment=made.completed),
        "GetEnvironmentStatus": deployment.GetEnvironmentStatusRequest(
            service=service, environment=DEV
        ),
        "ListEnvironmentStatuses": deployment.ListEnvironmentStatusesRequest(),
        "WatchDeployments": deployment.WatchDeploymentsRequest(service=service),
        "DiffEnvironments": deployment.DiffEnvironmentsRequest(
            environment=DEV, compared_with="staging"
        ),
        "ReconcileAudit": deployment.ReconcileAuditRequest(),
    }


def _explaining(made: Made) -> dict[str, Message]:
    return {
        "ExplainDeployment": deployment.ExplainDeploymentRequest(deployment=made.pending),
        "ExplainPromotion": deployment.ExplainPromotionRequest(
            release=made.published, environment=DEV
        ),
        "PlanRollback": deployment.PlanRollbackRequest(deployment=made.completed),
        "ListPendingApprovals": deployment.ListPendingApprovalsRequest(),
    }


def _output(made: Made) -> dict[str, Message]:
    """Append what is there already, which changes nothing however often it is sent."""
    return {
        "AppendStageOutput": output.AppendStageOutputRequest(
            deployment=made.printing, stage="build", text=PRINTED
        ),
        "TailStageOutput": output.TailStageOutputRequest(deployment=made.printing, stage="build"),
    }


def _insights() -> dict[str, Message]:
    return {
        "GetDoraMetrics": insights.GetDoraMetricsRequest(
            all=True,
            environment=DEV,
            start=Timestamp(seconds=1_700_000_000),
            end=Timestamp(seconds=1_700_086_400),
        )
    }


def _policies_and_marks(made: Made) -> dict[str, Message]:
    return {
        "GetPolicy": deployment.GetPolicyRequest(environment=made.governed),
        "ListPolicyVersions": deployment.ListPolicyVersionsRequest(environment=made.governed),
        "PublishPolicy": deployment.PublishPolicyRequest(
            environment=made.governed,
            policy=deployment.Policy(
                required_approvals=1, decide_within=Duration(seconds=3_600), strict_stages=["test"]
            ),
            reason="corpus",
            validate_only=True,
        ),
        "MarkReleaseBad": deployment.MarkReleaseBadRequest(
            release=made.published, environment=DEV, reason="corpus", validate_only=True
        ),
        "ClearReleaseBad": deployment.ClearReleaseBadRequest(
            release=made.marked, reason="corpus", validate_only=True
        ),
        "ListReleaseMarks": deployment.ListReleaseMarksRequest(),
    }


def _freezes(made: Made) -> dict[str, Message]:
    nights = restrictions.WeeklySchedule(
        days=[restrictions.WEEKDAY_FRIDAY], opens_at="17:30", closes_at="08:00"
    )
    return {
        # About an environment that nothing is deployed to.
        "CreateFreezeWindow": restrictions.CreateFreezeWindowRequest(
            name="corpus-new",
            kind=restrictions.FREEZE_KIND_DENY,
            reason="corpus",
            time_zone="Europe/Berlin",
            weekly=nights,
            environments=[made.governed],
            validate_only=True,
        ),
        "GetFreezeWindow": restrictions.GetFreezeWindowRequest(window=made.window),
        "ListFreezeWindows": restrictions.ListFreezeWindowsRequest(),
        "UpdateFreezeWindow": restrictions.UpdateFreezeWindowRequest(
            window=made.window, weekly=nights, validate_only=True
        ),
        "ArchiveFreezeWindow": restrictions.ArchiveFreezeWindowRequest(
            window=made.window, validate_only=True
        ),
        "UnarchiveFreezeWindow": restrictions.UnarchiveFreezeWindowRequest(
            window=made.window, validate_only=True
        ),
    }


def _locks_and_overrides(made: Made) -> dict[str, Message]:
    return {
        "CreateLock": restrictions.CreateLockRequest(
            service=made.published.partition("@")[0],
            environment=DEV,
            reason="corpus",
            validate_only=True,
        ),
        "ReleaseLock": restrictions.ReleaseLockRequest(
            lock=made.lock, reason="corpus", validate_only=True
        ),
        "GetLock": restrictions.GetLockRequest(lock=made.lock),
        "ListLocks": restrictions.ListLocksRequest(),
        "OverrideGate": restrictions.OverrideGateRequest(
            deployment=made.overridden,
            gate=restrictions.OVERRIDABLE_GATE_LOCK,
            reason="corpus",
            validate_only=True,
        ),
        "ListOverrides": restrictions.ListOverridesRequest(),
    }
