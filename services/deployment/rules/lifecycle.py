"""The life of a deployment: its statuses, what may be done in each, and what that leads to.

One table decides. Operations never assign a status: they call `advance` and write the answer with
a guarded update.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from shared.errors import IllegalTransition


class DeploymentStatus(StrEnum):
    """Where a deployment stands; the values are the stored spelling."""

    PENDING = "pending"
    IN_PROGRESS = "in-progress"
    PAUSED = "paused"
    CANCELLING = "cancelling"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back"


class Action(StrEnum):
    """What can be done to a deployment.

    `CANCEL` stops at once, because no executor has claimed the work; `REQUEST_CANCEL` asks the
    executor that has, and `CONFIRM_CANCELLED` is its answer (or its silence for too long).
    """

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"
    REQUEST_CANCEL = "request_cancel"
    CONFIRM_CANCELLED = "confirm_cancelled"
    REJECT = "reject"
    EXPIRE = "expire"
    SUPERSEDE = "supersede"
    ROLL_BACK = "roll_back"


class DeploymentKind(StrEnum):
    """Why a deployment was made; set at creation, never inferred from versions."""

    DEPLOY = "deploy"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    REDEPLOY = "redeploy"


class FailureClass(StrEnum):
    """Whom a failure speaks about: `FAILED` the release, `ERRORED` the machinery around it."""

    FAILED = "failed"
    ERRORED = "errored"


class FailureCause(StrEnum):
    """What ended a failed deployment; `REPORTED` is what somebody says who ends it."""

    STAGE_FAILED = "stage_failed"
    REPORTED = "reported"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    EXECUTOR_LOST = "executor_lost"
    STAGE_TIMEOUT = "stage_timeout"

    @property
    def usual_class(self) -> FailureClass:
        """The class of this cause when whoever reports it does not say: only verdicts blame."""
        verdicts = (FailureCause.STAGE_FAILED, FailureCause.REPORTED)
        return FailureClass.FAILED if self in verdicts else FailureClass.ERRORED


_S = DeploymentStatus
_A = Action

TRANSITIONS: Final[Mapping[tuple[DeploymentStatus, Action], DeploymentStatus]] = MappingProxyType(
    {
        (_S.PENDING, _A.START): _S.IN_PROGRESS,
        (_S.PENDING, _A.CANCEL): _S.CANCELLED,
        (_S.PENDING, _A.REJECT): _S.REJECTED,
        (_S.PENDING, _A.EXPIRE): _S.EXPIRED,
        (_S.PENDING, _A.SUPERSEDE): _S.SUPERSEDED,
        (_S.IN_PROGRESS, _A.COMPLETE): _S.COMPLETED,
        (_S.IN_PROGRESS, _A.FAIL): _S.FAILED,
        (_S.IN_PROGRESS, _A.PAUSE): _S.PAUSED,
        (_S.IN_PROGRESS, _A.CANCEL): _S.CANCELLED,
        (_S.IN_PROGRESS, _A.REQUEST_CANCEL): _S.CANCELLING,
        (_S.PAUSED, _A.RESUME): _S.IN_PROGRESS,
        (_S.PAUSED, _A.FAIL): _S.FAILED,
        (_S.PAUSED, _A.CANCEL): _S.CANCELLED,
        (_S.CANCELLING, _A.CONFIRM_CANCELLED): _S.CANCELLED,
        (_S.COMPLETED, _A.ROLL_BACK): _S.ROLLED_BACK,
        (_S.FAILED, _A.ROLL_BACK): _S.ROLLED_BACK,
        (_S.CANCELLED, _A.ROLL_BACK): _S.ROLLED_BACK,
    }
)

HOLDS_SLOT: Final = frozenset({_S.IN_PROGRESS, _S.PAUSED, _S.CANCELLING})
OPEN: Final = HOLDS_SLOT | {_S.PENDING}
FINAL: Final = frozenset(_S) - OPEN

WHEN_OVERDUE: Final[Mapping[DeploymentStatus, Action]] = MappingProxyType(
    {
        _S.PENDING: _A.EXPIRE,
        _S.IN_PROGRESS: _A.FAIL,
        _S.PAUSED: _A.FAIL,
        _S.CANCELLING: _A.CONFIRM_CANCELLED,
    }
)
"""What ends a wait whose deadline has passed; every status that is not final has such an end."""


_ON_REQUEST: Final[Mapping[Action, tuple[str, ...]]] = MappingProxyType(
    {
        _A.START: ("start",),
        _A.RESUME: ("retry", "ignore"),
        _A.COMPLETE: ("complete",),
        _A.FAIL: ("fail",),
        _A.CANCEL: ("cancel",),
        _A.CONFIRM_CANCELLED: ("confirm_cancelled",),
        _A.REJECT: ("reject",),
        _A.ROLL_BACK: ("roll_back",),
    }
)
"""What a call can do. A stage pauses, time expires, and cancelling asks first where it must."""


def allowed_actions(status: DeploymentStatus, *, touched: bool = True) -> tuple[Action, ...]:
    """Return what may be done in `status`, in the order of `Action`."""
    return tuple(
        action
        for action in Action
        if (status, action) in TRANSITIONS
        and (touched or action is not Action.ROLL_BACK or status is not _S.CANCELLED)
    )


def on_request(status: DeploymentStatus, *, touched: bool = True) -> str:
    """Say in words what somebody can ask for in `status`; the rest happens by itself."""
    words = (
        word
        for action in allowed_actions(status, touched=touched)
        for word in _ON_REQUEST.get(action, ())
    )
    return ", ".join(words) or "nothing"


def advance(
    status: DeploymentStatus,
    action: Action,
    *,
    subject: str = "The deployment",
    touched: bool = True,
) -> DeploymentStatus:
    """Return the status that `action` leads to; raises IllegalTransition if it is not allowed.

    `touched` says whether the deployment reached its environment: a cancelled one that did not
    left nothing to roll back. `subject` begins the error's sentence.
    """
    if action not in allowed_actions(status, touched=touched):
        allowed = on_request(status, touched=touched)
        raise IllegalTransition(subject=subject, status=status, action=action, allowed=allowed)
    return TRANSITIONS[status, action]


def cancel_action(status: DeploymentStatus, *, claimed: bool) -> Action:
    """Return which of the two ways to stop applies.

    Only running work can be claimed: nothing is claimed before the start, and pausing ends the
    lease.
    """
    running = status is DeploymentStatus.IN_PROGRESS
    return Action.REQUEST_CANCEL if claimed and running else Action.CANCEL


def has_touched(
    kind: DeploymentKind,
    *,
    started: bool,
    has_deploy_stage: bool,
    deploy_began: bool,
    completed: bool = False,
) -> bool:
    """Tell whether a deployment may have changed what runs in its environment.

    A rollback counts from its request on: its subject is undone in the same moment, so the next
    decision starts from the rollback. A pipeline without a stage named `deploy` changes the
    environment in a stage nobody can point at, so it counts from its start like one without any.
    A completed deployment is what runs there, however it came to that.
    """
    if completed or kind is DeploymentKind.ROLLBACK:
        return True
    return deploy_began if has_deploy_stage else started
