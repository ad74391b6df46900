"""Between the messages of policies and the values of this service."""

from typing import Any, Final

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment import messages_enums as enums
from services.deployment.messages_ids import id_text
from services.deployment.messages_times import duration, timestamp
from services.deployment.operations.publishing import PolicyVersion, Publish, Published
from services.deployment.rules.policy import OnFailure, Policy, QueueMode
from shared.identity.actor import Role

# As the comments of the fields say what their absence means.
_LEFT_OUT: Final = Policy()
_DURATIONS: Final = (
    "decide_within",
    "valid_for",
    "soak",
    "stable_after",
    "in_progress_limit",
    "paused_limit",
    "cancel_timeout",
    "stage_limit",
)


def publication(request: pb.PublishPolicyRequest) -> Publish:
    """Return the policy that a request publishes."""
    given = request.policy
    durations: dict[str, Any] = {
        name: getattr(given, name).ToTimedelta()
        if given.HasField(name)
        else getattr(_LEFT_OUT, name)
        for name in _DURATIONS
    }
    policy = Policy(
        required_approvals=given.required_approvals,
        minimum_role=_role(given.minimum_role),
        lead_required=given.lead_required,
        requester_may_approve=given.requester_may_approve,
        author_may_approve=given.author_may_approve,
        on_failure=OnFailure(enums.ON_FAILURE_WORD.get(given.on_failure, _LEFT_OUT.on_failure)),
        strict_stages=frozenset(given.strict_stages),
        explicit_target_role=_role(given.explicit_target_role),
        **durations,
    )
    expected = request.expected_version if request.HasField("expected_version") else None
    queue = QueueMode(enums.QUEUE_MODE_WORD[given.queue]) if given.queue else None
    return Publish(request.environment, policy, request.reason, expected, queue)


def wanted_version(request: pb.GetPolicyRequest) -> int | None:
    """Return the version that a request asks for, None for the one in force."""
    return request.version if request.HasField("version") else None


def policy_version(value: PolicyVersion) -> pb.PolicyVersion:
    """Return a version of a policy."""
    row = value.row
    return pb.PolicyVersion(
        environment_id=str(row.environment_id),
        environment=row.environment,
        version=row.version,
        policy=_policy(value.policy),
        published_by_id=id_text(row.published_by),
        published_by=row.published_by_name or "",
        reason=row.reason or "",
        created_at=timestamp(row.created_at),
    )


def published(value: Published) -> pb.PublishPolicyResponse:
    """Answer PublishPolicy."""
    return pb.PublishPolicyResponse(
        policy=policy_version(value.version), affected_deployments=value.affected
    )


def _policy(value: Policy) -> pb.Policy:
    durations = {name: duration(getattr(value, name)) for name in _DURATIONS}
    return pb.Policy(
        required_approvals=value.required_approvals,
        minimum_role=value.minimum_role.value,  # type: ignore[arg-type]
        lead_required=value.lead_required,
        requester_may_approve=value.requester_may_approve,
        author_may_approve=value.author_may_approve,
        on_failure=enums.ON_FAILURE[value.on_failure],
        strict_stages=sorted(value.strict_stages),
        explicit_target_role=value.explicit_target_role.value,  # type: ignore[arg-type]
        queue=enums.QUEUE_MODE[value.queue],
        **durations,
    )


def _role(number: Any) -> Role:  # noqa: ANN401  (a number of the proto)
    return Role(number) if number else Role.DEVELOPER
