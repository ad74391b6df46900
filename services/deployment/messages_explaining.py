"""Between the messages that explain, plan and list what waits and the values of this service."""

from uuid import UUID

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment import messages_enums as enums
from services.deployment.messages_overrides import of_deployment
from services.deployment.messages_resources import blocker
from services.deployment.messages_times import moment, timestamp
from services.deployment.operations.asking import NewDeployment
from services.deployment.operations.explain import Explained
from services.deployment.operations.pending import PendingQuery
from services.deployment.operations.planning import Planned, RollBack
from services.deployment.rules.candidates import Candidate
from shared.db.keyset import PageRequest


def new_deployment(request: pb.ExplainPromotionRequest) -> NewDeployment:
    """Return the deployment that a request asks about."""
    return NewDeployment(
        release=request.release,
        environment=request.environment,
        allow_downgrade=request.allow_downgrade,
        not_before=moment(request, "not_before"),
    )


def roll_back(request: pb.PlanRollbackRequest) -> RollBack:
    """Return the rollback that a request asks about."""
    return RollBack(
        deployment_id=UUID(request.deployment),
        target_release=request.target_release,
        preempt=request.preempt,
        cross_irreversible=request.cross_irreversible,
    )


def pending(request: pb.ListPendingApprovalsRequest, page: PageRequest) -> PendingQuery:
    """Return whose approvals a request asks for."""
    return PendingQuery(
        page=page,
        approver=request.approver,
        service=request.service,
        environment=request.environment,
        asked_only=request.asked_only,
    )


def explained(value: Explained) -> pb.ExplainDeploymentResponse:
    """Answer ExplainDeployment."""
    return pb.ExplainDeploymentResponse(
        status=enums.STATUS[value.case.status],
        explanation=_explanation(value),
        refusals=value.against,
        overrides=of_deployment(value.case.dossier),
    )


def promotion(value: Explained) -> pb.ExplainPromotionResponse:
    """Answer ExplainPromotion."""
    return pb.ExplainPromotionResponse(
        explanation=_explanation(value),
        supersedes=map(str, value.supersedes),
        refusals=value.refusals,
    )


def planned(value: Planned) -> pb.PlanRollbackResponse:
    """Answer PlanRollback."""
    plan, history = value.plan, value.history
    left = history.rows[plan.rollback_of]
    return pb.PlanRollbackResponse(
        target_release_id=str(plan.target.release_id),
        target_release=f"{history.place.service}@{plan.target.version}",
        from_release_id=str(left.release_id),
        from_release=f"{history.place.service}@{left.version}",
        marks_bad=plan.marks_bad,
        passed_over=[_passed_over(history.place.service, one) for one in plan.passed_over],
        blockers=map(blocker, value.blockers),
        preempts_id="" if plan.preempts is None else str(plan.preempts.holder.id),
        supersedes=map(str, plan.supersedes),
        crosses=[f"{history.place.service}@{version}" for version in plan.crosses],
    )


def _explanation(value: Explained) -> pb.Explanation:
    return pb.Explanation(
        may_start=value.may_start,
        refused=value.refused,
        gates=map(blocker, value.answers),
        earliest_start=timestamp(value.earliest_start),
        policy_version=value.case.dossier.policy_version,
        as_of=timestamp(value.case.dossier.moment),
    )


def _passed_over(service: str, value: Candidate) -> pb.PassedOver:
    return pb.PassedOver(
        deployment_id=str(value.deployment_id),
        release_id=str(value.release_id),
        release=f"{service}@{value.version}",
        reason=f"{value.why[0].upper()}{value.why[1:]}.",
    )
