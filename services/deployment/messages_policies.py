"""Between the messages of policies and the values of this service."""

from datetime import timedelta
from typing import Any, Final

from google.protobuf.duration_pb2 import Duration
from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment.messages_times import timestamp
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
_ON_FAILURE: Final = {
    pb.ON_FAILURE_UNSPECIFIED: OnFailure.FAIL,
    pb.ON_FAILURE_FAIL: OnFailure.FAIL,
    pb.ON_FAILURE_PAUSE: OnFailure.PAUSE,
}
_QUEUE: Final = {
    pb.QUEUE_MODE_UNSPECIFIED: None,
    pb.QUEUE_MODE_QUEUE: QueueMode.QUEUE,
    pb.QUEUE_MODE_SUPERSEDE: QueueMode.SUPERSEDE,
    pb.QUEUE_MODE_REJECT: QueueMode.REJECT,
}


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
        on_failure=_ON_FAILURE[given.on_failure],
        strict_stages=frozenset(given.strict_stages),
        explicit_target_role=_role(given.explicit_target_role),
        **durations,
    )
    expected = request.expected_version if request.HasField("expected_version") else None
    return Publish(request.environment, policy, request.reason, expected, _QUEUE[given.queue])


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
        published_by_id="" if row.published_by is None else str(row.published_by),
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
    durations = {name: _duration(getattr(value, name)) for name in _DURATIONS}
    return pb.Policy(
        required_approvals=value.required_approvals,
        minimum_role=value.minimum_role.value,  # type: ignore[arg-type]
        lead_required=value.lead_required,
        requester_may_approve=value.requester_may_approve,
        author_may_approve=value.author_may_approve,
        on_failure=pb.OnFailure.Value(f"ON_FAILURE_{value.on_failure.upper()}"),
        strict_stages=sorted(value.strict_stages),
        explicit_target_role=value.explicit_target_role.value,  # type: ignore[arg-type]
        queue=pb.QueueMode.Value(f"QUEUE_MODE_{value.queue.upper()}"),
        **durations,
    )


def _role(number: Any) -> Role:  # noqa: ANN401  (a number of the proto)
    return Role(number) if number else Role.DEVELOPER


def _duration(value: timedelta | None) -> Duration | None:
    if value is None:
        return None
    made = Duration()
    made.FromTimedelta(value)
    return made
