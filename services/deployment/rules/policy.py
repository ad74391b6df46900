"""What an environment asks of a deployment: numbers and switches, versioned as one policy."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from services.deployment.rules.lifecycle import DeploymentStatus
from shared.domain_error import FieldViolation
from shared.errors import ValidationFailed
from shared.identity.actor import Role


class EnvironmentType(StrEnum):
    """What an environment is for; its defaults follow from that."""

    DEV = "dev"
    STAGING = "staging"
    PROD = "prod"


class OnFailure(StrEnum):
    """What a failed stage does to its deployment: end it, or let a person decide."""

    FAIL = "fail"
    PAUSE = "pause"


class QueueMode(StrEnum):
    """What becomes of deployments of one service in an environment that follow one another.

    `QUEUE` starts them in the order of their requests, except that one held back by another gate
    lets others pass; in `SUPERSEDE` a newer one takes the place of those that wait; in `REJECT`
    another one is refused while one waits or runs.
    """

    QUEUE = "queue"
    SUPERSEDE = "supersede"
    REJECT = "reject"


@dataclass(frozen=True, slots=True)
class Policy:
    """The rules of one environment at one version.

    `minimum_role` is what every approver needs, `lead_required` asks for one lead or admin among
    them. `decide_within` bounds the wait for decisions and `valid_for` the life of each one; None
    is no bound. `stable_after` is how long a release must have been live to be chosen silently as
    a rollback target, `explicit_target_role` who may name another. Strict stages can be neither
    skipped nor ignored. `stage_limit` bounds each run of a stage; None is no bound but that of the
    deployment. `since` is when this version took effect, None for version 0, the default.
    """

    version: int = 0
    since: datetime | None = None
    required_approvals: int = 0
    minimum_role: Role = Role.DEVELOPER
    lead_required: bool = False
    requester_may_approve: bool = False
    author_may_approve: bool = True
    decide_within: timedelta | None = None
    valid_for: timedelta | None = None
    on_failure: OnFailure = OnFailure.FAIL
    soak: timedelta = timedelta()
    stable_after: timedelta = timedelta()
    strict_stages: frozenset[str] = frozenset()
    explicit_target_role: Role = Role.DEVELOPER
    in_progress_limit: timedelta = timedelta(hours=24)
    paused_limit: timedelta = timedelta(hours=72)
    cancel_timeout: timedelta = timedelta(minutes=5)
    stage_limit: timedelta | None = None
    queue: QueueMode = QueueMode.SUPERSEDE

    def asks_the_same(self, other: "Policy") -> bool:
        """Say whether both are alike in everything but their version."""
        return replace(self, version=other.version, since=other.since) == other

    def limit(self, status: DeploymentStatus) -> timedelta | None:
        """Return how long a deployment may stay in `status`; `lifecycle.WHEN_OVERDUE` ends it.

        None where nothing ends, and for pending, whose end is the one of its approval.
        """
        return {
            DeploymentStatus.IN_PROGRESS: self.in_progress_limit,
            DeploymentStatus.PAUSED: self.paused_limit,
            DeploymentStatus.CANCELLING: self.cancel_timeout,
        }.get(status)


_DEFAULTS: Final[Mapping[EnvironmentType, Policy]] = MappingProxyType(
    {
        EnvironmentType.DEV: Policy(),
        EnvironmentType.STAGING: Policy(
            required_approvals=1,
            decide_within=timedelta(days=7),
            valid_for=timedelta(days=7),
        ),
        EnvironmentType.PROD: Policy(
            required_approvals=2,
            lead_required=True,
            author_may_approve=False,
            decide_within=timedelta(days=3),
            valid_for=timedelta(hours=24),
            soak=timedelta(minutes=30),
            stable_after=timedelta(minutes=10),
            strict_stages=frozenset({"security_scan", "smoke_test"}),
            explicit_target_role=Role.LEAD,
            queue=QueueMode.QUEUE,
        ),
    }
)


def default_policy(environment_type: EnvironmentType) -> Policy:
    """Return version 0: what an environment of this type follows until it has its own."""
    return _DEFAULTS[environment_type]


def check_consistent(policy: Policy) -> None:
    """Return when the parts of a policy make sense together; raises ValidationFailed.

    Who wants a lead to approve, and asks for no approval, would get none without noticing.
    """
    if policy.required_approvals > 0:
        return
    why = "asks for an approver, but required_approvals is 0; ask for 1 or more, or leave it out"
    asking = (
        ("policy.lead_required", policy.lead_required),
        ("policy.minimum_role", policy.minimum_role > Role.DEVELOPER),
    )
    wrong = tuple(FieldViolation(name, why, "policy.approvers") for name, given in asking if given)
    if wrong:
        first = f"{wrong[0].field} {why}"
        raise ValidationFailed(count=len(wrong), first=first, fields=wrong)
