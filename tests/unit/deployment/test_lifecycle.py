"""The deployment machine, over every status and every action."""

from itertools import product

import pytest

from services.deployment.rules.lifecycle import (
    FINAL,
    HOLDS_SLOT,
    OPEN,
    TRANSITIONS,
    WHEN_OVERDUE,
    Action,
    DeploymentKind,
    DeploymentStatus,
    FailureCause,
    FailureClass,
    advance,
    allowed_actions,
    cancel_action,
    has_touched,
)
from shared.errors import IllegalTransition

ARROWS = """
pending      start              in-progress
pending      cancel             cancelled
pending      reject             rejected
pending      expire             expired
pending      supersede          superseded
in-progress  complete           completed
in-progress  fail               failed
in-progress  pause              paused
in-progress  cancel             cancelled
in-progress  request_cancel     cancelling
paused       resume             in-progress
paused       fail               failed
paused       cancel             cancelled
cancelling   confirm_cancelled  cancelled
completed    roll_back          rolled_back
failed       roll_back          rolled_back
cancelled    roll_back          rolled_back
"""
EXPECTED = {
    (line.split()[0], line.split()[1]): line.split()[2] for line in ARROWS.split("\n") if line
}


# Pausing, expiring, being superseded and asking an executor to stop are no calls of their own.
ON_REQUEST = {
    "pending": "start, cancel, reject",
    "in-progress": "complete, fail, cancel",
    "paused": "retry, ignore, fail, cancel",
    "cancelling": "confirm_cancelled",
    "completed": "roll_back",
    "failed": "roll_back",
    "cancelled": "roll_back",
}


@pytest.mark.parametrize(("status", "action"), list(product(DeploymentStatus, Action)))
def test_every_action_in_every_status(status: DeploymentStatus, action: Action) -> None:
    expected = EXPECTED.get((status, action))

    if expected is not None:
        assert advance(status, action) == expected
        return

    with pytest.raises(IllegalTransition) as refused:
        advance(status, action, subject="Deployment d1")
    assert refused.value.facts["status"] == status
    assert refused.value.facts["action"] == action
    assert refused.value.facts["allowed"] == ON_REQUEST.get(status, "nothing")


def test_final_statuses_are_left_only_by_a_rollback() -> None:
    leaving = {(before, action) for before, action in TRANSITIONS if before in FINAL}

    assert {action for _, action in leaving} == {Action.ROLL_BACK}
    assert allowed_actions(DeploymentStatus.ROLLED_BACK) == ()


def test_cancelled_is_rolled_back_only_if_it_touched_the_environment() -> None:
    assert advance(DeploymentStatus.CANCELLED, Action.ROLL_BACK) is DeploymentStatus.ROLLED_BACK
    with pytest.raises(IllegalTransition, match="Allowed now: nothing"):
        advance(DeploymentStatus.CANCELLED, Action.ROLL_BACK, touched=False)


def test_sets_divide_the_statuses() -> None:
    assert {"in-progress", "paused", "cancelling"} == HOLDS_SLOT
    assert {"pending", *HOLDS_SLOT} == OPEN
    assert frozenset(DeploymentStatus) - OPEN == FINAL


def test_every_status_that_is_not_final_has_an_end() -> None:
    assert set(WHEN_OVERDUE) == OPEN
    for status, action in WHEN_OVERDUE.items():
        assert advance(status, action) in FINAL


@pytest.mark.parametrize(("status", "claimed"), list(product(sorted(OPEN), (True, False))))
def test_only_claimed_running_work_is_asked_to_stop(
    status: DeploymentStatus, *, claimed: bool
) -> None:
    asked = claimed and status is DeploymentStatus.IN_PROGRESS
    expected = Action.REQUEST_CANCEL if asked else Action.CANCEL

    assert cancel_action(status, claimed=claimed) is expected


@pytest.mark.parametrize(
    ("kind", "started", "has_deploy", "began", "completed"),
    list(product(DeploymentKind, *[(True, False)] * 4)),
)
def test_touched_over_all_facts(
    kind: DeploymentKind, *, started: bool, has_deploy: bool, began: bool, completed: bool
) -> None:
    reached = (has_deploy and began) or (not has_deploy and started)
    expected = reached or kind == "rollback" or completed

    assert expected == has_touched(
        kind,
        started=started,
        has_deploy_stage=has_deploy,
        deploy_began=began,
        completed=completed,
    )


def test_only_verdicts_blame_the_release() -> None:
    blaming = {cause for cause in FailureCause if cause.usual_class is FailureClass.FAILED}

    assert blaming == {FailureCause.STAGE_FAILED, FailureCause.REPORTED}
