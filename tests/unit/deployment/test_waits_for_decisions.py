"""Waits for decisions: what a lost role changes, when to look again, and standstills."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.deployment.rules.approvals import (
    AFTER_STANDSTILL,
    ApprovalFacts,
    ApprovalStatus,
    Outcome,
    Person,
    can_still_approve,
    decide_by,
    look_again,
    status,
)
from services.deployment.rules.policy import EnvironmentType, Policy, default_policy
from shared.identity.actor import Role
from tests.unit.deployment.facts import HOUR, START, approval, asked, person

PROD = EnvironmentType.PROD
LEAD = person(1, Role.LEAD)
LEAD2 = person(2, Role.LEAD)
DEV1 = person(3, Role.DEVELOPER)
PEOPLE = (LEAD, LEAD2, DEV1)
WITHIN = timedelta(days=3)
SECOND = timedelta(seconds=1)
# An approval that lasts, so that only what happens to its author ends it.
LASTING = replace(default_policy(PROD), valid_for=None)
ONE = Policy(required_approvals=1, decide_within=WITHIN)


def later(facts: ApprovalFacts, someone: Person, **changes: object) -> ApprovalFacts:
    """Return the same facts after somebody has changed."""
    changed = replace(someone, **changes)  # type: ignore[arg-type]
    return replace(facts, people={**facts.people, someone.id: changed})


LOSSES = [{"role": Role.DEVELOPER}, {"role": Role.VIEWER}, {"active": False}]


@pytest.mark.parametrize("loss", LOSSES)
def test_who_loses_a_role_changes_nothing_that_was_before(loss: dict[str, object]) -> None:
    facts = asked(PROD, PEOPLE, [approval(LEAD), approval(DEV1)], policy=LASTING)
    lost = START + 200 * HOUR
    after = later(facts, LEAD, demoted_at=lost, **loss)

    assert status(after, START + 2 * HOUR) is ApprovalStatus.APPROVED
    assert status(after, lost - SECOND) is ApprovalStatus.APPROVED
    assert status(after, lost) is ApprovalStatus.PENDING
    assert can_still_approve(after, lost)[-1] == LEAD2


@pytest.mark.parametrize("loss", LOSSES)
def test_an_approval_that_is_lost_with_a_role_starts_the_clock_anew(
    loss: dict[str, object],
) -> None:
    facts = asked(PROD, PEOPLE, [approval(LEAD, 69), approval(DEV1, 70)], policy=LASTING)
    lost = START + timedelta(days=3.1)
    after = later(facts, LEAD, demoted_at=lost, **loss)

    assert decide_by(after, lost - SECOND) == START + WITHIN
    assert decide_by(after, lost + HOUR) == lost + WITHIN
    assert status(after, lost + HOUR) is ApprovalStatus.PENDING
    assert status(after, lost + WITHIN) is ApprovalStatus.EXPIRED


def test_an_approval_that_was_lost_already_is_not_lost_again_with_a_role() -> None:
    void = approval(LEAD, 1, outcome=Outcome.REVOKED, revoked_at=START + 2 * HOUR)
    facts = asked(PROD, PEOPLE, [void], policy=LASTING)
    after = later(facts, LEAD, role=Role.DEVELOPER, demoted_at=START + 50 * HOUR)

    assert decide_by(after, START + 60 * HOUR) == START + 2 * HOUR + WITHIN


def test_where_no_lead_is_asked_for_none_is_lost() -> None:
    facts = asked(PROD, PEOPLE, [approval(LEAD)], policy=ONE)
    after = later(facts, LEAD, role=Role.DEVELOPER, demoted_at=START + 50 * HOUR)

    assert status(after, START + 60 * HOUR) is ApprovalStatus.APPROVED


@pytest.mark.parametrize("returned", [Role.DEVELOPER, Role.LEAD, Role.ADMIN])
@pytest.mark.parametrize("policy", [LASTING, replace(ONE, required_approvals=2)])
def test_who_comes_back_takes_no_time_away_that_their_loss_has_given(
    policy: Policy, returned: Role
) -> None:
    """As deactivated, and then active again, perhaps in another role."""
    facts = asked(PROD, PEOPLE, [approval(LEAD, 1)], policy=policy)
    lost = START + 60 * HOUR
    gone = later(facts, LEAD, active=False, demoted_at=lost)
    back = later(facts, LEAD, role=returned, demoted_at=lost)

    assert decide_by(gone, START + 80 * HOUR) == lost + WITHIN
    assert decide_by(back, START + 90 * HOUR) == lost + WITHIN
    assert status(back, START + 90 * HOUR) is ApprovalStatus.PENDING
    assert status(back, lost + WITHIN) is ApprovalStatus.EXPIRED


def test_what_somebody_lost_before_they_approved_starts_no_clock() -> None:
    facts = asked(PROD, PEOPLE, [approval(LEAD, 50)], policy=LASTING)
    back = later(facts, LEAD, demoted_at=START + 49 * HOUR)

    assert decide_by(back, START + 60 * HOUR) == START + WITHIN


@pytest.mark.parametrize("valid_for", [None, timedelta(days=30)])
@pytest.mark.parametrize("hours", [1, 70.5, 72.5, 500])
def test_however_an_approval_ends_somebody_looks_before_the_time_is_over(
    valid_for: timedelta | None, hours: float
) -> None:
    facts = asked(PROD, PEOPLE, [approval(LEAD)], policy=replace(ONE, valid_for=valid_for))
    now = START + hours * HOUR
    look = look_again(facts, now)
    assert look is not None
    for after in (timedelta(), SECOND, HOUR, WITHIN):
        gone = later(facts, LEAD, active=False, demoted_at=now + after)
        ends = decide_by(gone, now + after)
        assert ends is not None
        assert look <= ends
        assert status(gone, ends) is ApprovalStatus.EXPIRED


def test_when_to_look_again() -> None:
    waiting = asked(PROD, PEOPLE, policy=ONE)
    approved = replace(waiting, decisions=(approval(LEAD),))
    briefly = replace(approved, policy=replace(ONE, valid_for=24 * HOUR))
    unbounded = replace(approved, policy=replace(ONE, decide_within=None, valid_for=HOUR))

    assert look_again(waiting, START + HOUR) == START + WITHIN
    assert look_again(approved, START + HOUR) == START + HOUR + WITHIN
    assert look_again(briefly, START + HOUR) == START + 24 * HOUR
    assert look_again(unbounded, START) is None
    assert look_again(replace(approved, exempt=True), START) is None


@pytest.mark.parametrize(("within", "left"), [(WITHIN, AFTER_STANDSTILL), (3 * SECOND, 3 * SECOND)])
def test_after_nobody_could_decide_there_is_some_time_left(
    within: timedelta, left: timedelta
) -> None:
    facts = asked(PROD, PEOPLE, policy=replace(ONE, decide_within=within))
    back = START + within + 5 * HOUR
    after = replace(facts, stood_still_until=back)

    assert status(facts, back) is ApprovalStatus.EXPIRED
    assert decide_by(after, back) == back + left
    assert status(after, back) is ApprovalStatus.PENDING
    assert status(after, back + left) is ApprovalStatus.EXPIRED


def test_no_time_is_lost_by_a_time_in_which_nobody_could_decide() -> None:
    facts = asked(PROD, PEOPLE, policy=ONE)

    for back in (START - HOUR, START + HOUR):
        assert decide_by(replace(facts, stood_still_until=back), START + HOUR) == START + WITHIN


def test_an_approval_of_the_time_left_counts_as_one_in_time() -> None:
    """When it ends the clock starts anew, as with every other."""
    back = START + 80 * HOUR
    given = approval(LEAD, 80.5, outcome=Outcome.REVOKED, revoked_at=START + 90 * HOUR)
    facts = asked(PROD, PEOPLE, [given], policy=ONE)
    after = replace(facts, stood_still_until=back)

    assert decide_by(after, START + 91 * HOUR) == START + 90 * HOUR + WITHIN
