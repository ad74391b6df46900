"""What lists of deployments, approvals and rollbacks can be filtered and sorted by.

How far the approval of a deployment is, is not among it: that follows from decisions, people and
the policy of the moment, and is in no column.
"""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import any_, func, literal_column, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.deployment.rules.approvals import Outcome
from services.deployment.rules.lifecycle import (
    DeploymentKind,
    DeploymentStatus,
    FailureCause,
    FailureClass,
)
from services.deployment.rules.policy import EnvironmentType
from shared.db.filtering import (
    ChoiceField,
    Condition,
    Field,
    Fields,
    IdField,
    MomentField,
    NamedField,
    TextField,
)
from shared.db.keyset import sorted_by
from shared.db.models.catalog import Environment, Release, Service, Team
from shared.db.models.deployment import EPOCH, Approval, Deployment, Rollback
from shared.db.models.identity import User
from shared.filters import Comparison
from shared.ids import parse_id

ROLLBACK_STATUSES: Final = {
    "IN_PROGRESS": "in-progress",
    "COMPLETED": "completed",
    "FAILED": "failed",
}


@dataclass(frozen=True, slots=True)
class Expressions:
    """Which entries a list is asked for, and in which order, as the request says it."""

    filter: str = ""
    order_by: str = ""


ANYTHING: Final = Expressions()


@dataclass(frozen=True, slots=True)
class ReleaseField:
    """A reference to a release, compared with its id or with `service@version`."""

    id_column: Any

    def condition(self, asked: Comparison, rest: tuple[str, ...]) -> Condition:
        """Return the condition; see `Field`."""
        service, at, version = asked.value.partition("@")
        reference = parse_id(asked.value)
        if rest or asked.operator not in {"=", "!="} or not (reference or at):
            asked.wrong(
                f"`{asked.path[0]}` is compared by = and != with `service@version` or an id"
            )
        named = (
            select(Release.id)
            .join(Service, Service.id == Release.service_id)
            .where(func.lower(Service.name) == func.lower(service), Release.version == version)
        )
        # As an array it is worked out once, and an index finds who refers to it.
        alike: Condition = (
            self.id_column == any_(func.array(named.scalar_subquery()))
            if reference is None
            else self.id_column == reference
        )
        return alike if asked.operator == "=" else ~alike


async def read_in_order(tx: AsyncConnection) -> None:
    """Have the lists of this transaction read along an index.

    What no index knows, such as a value that hardly any row has, is looked for along the index of
    the order, which ends with the page. The planner would rather read and sort whole tables as
    long as they are small, and change its mind as they grow.
    """
    await tx.execute(select(func.set_config("enable_seqscan", "off", literal_column("true"))))


def _choices(words: Any) -> dict[str, str]:  # noqa: ANN401  (an enumeration of words)
    return {one.name: one.value for one in words}


_WHERE: Final[dict[str, Field]] = {
    "service": NamedField(Deployment.service_id, Service.name),
    "team": NamedField(Service.team_id, Team.name),
    "environment": NamedField(Deployment.environment_id, Environment.name),
    "environment_type": ChoiceField(Environment.environment_type, _choices(EnvironmentType)),
}
_STARTED: Final = func.coalesce(Deployment.started_at, literal_column(EPOCH))
_ENDED: Final = func.coalesce(Deployment.completed_at, literal_column(EPOCH))

DEPLOYMENTS: Final = Fields(
    filters={
        **_WHERE,
        "release": ReleaseField(Deployment.release_id),
        "digest": TextField(Deployment.artifact_digest),
        "deployed_by": NamedField(Deployment.deployed_by, User.username),
        "status": ChoiceField(Deployment.status, _choices(DeploymentStatus)),
        "kind": ChoiceField(Deployment.kind, _choices(DeploymentKind)),
        "failure_class": ChoiceField(Deployment.failure_class, _choices(FailureClass)),
        "failure_cause": ChoiceField(Deployment.failure_cause, _choices(FailureCause)),
        "rollback_of": IdField(Deployment.rollback_of),
        "rolled_back_by": IdField(Deployment.rolled_back_by),
        "superseded_by": IdField(Deployment.superseded_by),
        "deployed_at": MomentField(Deployment.deployed_at),
        "started_at": MomentField(Deployment.started_at),
        "completed_at": MomentField(Deployment.completed_at),
        # It is created when it is requested.
        "created_at": MomentField(Deployment.deployed_at),
    },
    orders={
        "deployed_at": Deployment.deployed_at,
        "created_at": Deployment.deployed_at,
        "started_at": _STARTED,
        "completed_at": _ENDED,
    },
    unique=Deployment.id,
    default=sorted_by(Deployment.deployed_at, descending=True),
)
APPROVALS: Final = Fields(
    filters={
        "deployment": IdField(Approval.deployment_id),
        "approver": NamedField(Approval.approver_id, User.username),
        "status": ChoiceField(Approval.status, _choices(Outcome)),
        "service": _WHERE["service"],
        "environment": _WHERE["environment"],
        "decided_at": MomentField(Approval.decided_at),
        "created_at": MomentField(Approval.created_at),
    },
    orders={"created_at": Approval.created_at},
    unique=Approval.id,
    default=sorted_by(Approval.created_at, descending=True),
)
ROLLBACKS: Final = Fields(
    filters={
        **_WHERE,
        "deployment": IdField(Rollback.deployment_id),
        "status": ChoiceField(Rollback.status, ROLLBACK_STATUSES),
        "initiated_by": NamedField(Rollback.initiated_by, User.username),
        "completed_at": MomentField(Rollback.completed_at),
        "created_at": MomentField(Rollback.created_at),
    },
    orders={"created_at": Rollback.created_at},
    unique=Rollback.id,
    default=sorted_by(Rollback.created_at, descending=True),
)
