"""Approvals: the whole product of who may decide, then what counts and until when."""

from dataclasses import replace
from datetime import timedelta
from itertools import combinations, product

import pytest

from services.deployment.rules.approvals import (
    ApprovalStatus,
    Outcome,
    Person,
    Void,
    can_still_approve,
    check_satisfiable,
    counted,
    decide_by,
    eligible,
    may_decide,
    satisfied,
    status,
    valid_until,
    void,
)
from services.deployment.rules.deciding import decide
from services.deployment.rules.policy import EnvironmentType, default_policy
from shared.errors import (
    DecisionExists,
    IllegalTransition,
    NotEnoughApprovers,
    NotPermitted,
    ValidationFailed,
)
from shared.identity.actor import ActorKind, Role
from tests.unit.deployment.facts import HOUR, START, approval, asked, person, uid

DEV, STAGING, PROD = EnvironmentType
ADMIN = person(1, Role.ADMIN)
LEAD = person(2, Role.LEAD)
LEAD2 = person(3, Role.LEAD)
DEV1 = person(4, Role.DEVELOPER)
DEV2 = person(5, Role.DEVELOPER)
VIEWER = person(6, Role.VIEWER)
BOT = person(7, Role.ADMIN, kind=ActorKind.SERVICE)
EVERYBODY = (ADMIN, LEAD, LEAD2, DEV1, DEV2, VIEWER, BOT)
FLAGS = (True, False)
LATER = START + 100 * HOUR


@pytest.mark.parametrize(
    ("environment", "role", "kind", "active", "requester", "author"),
    list(product(EnvironmentType, Role, ActorKind, FLAGS, FLAGS, FLAGS)),
)
def test_who_may_decide(
    environment: EnvironmentType,
    role: Role,
    kind: ActorKind,
    *,
    active: bool,
    requester: bool,
    author: bool,
) -> None:
    someone = person(9, role, kind=kind, active=active)
    facts = asked(
        environment,
        [someone],
        requester=[someone] if requester else [],
        authors=[someone] if author else [],
    )
    allowed = kind == "person" and active and role > Role.VIEWER and not requester
    if environment is PROD:
        allowed = allowed and not author

    assert (may_decide(someone, facts) is None) is allowed


@pytest.mark.parametrize(
    ("environment", "approvers"),
    [
        (environment, approvers)
        for environment in EnvironmentType
        for size in range(4)
        for approvers in combinations(EVERYBODY, size)
    ],
)
def test_quorum_of_every_set_of_people(
    environment: EnvironmentType, approvers: tuple[Person, ...]
) -> None:
    facts = asked(environment, EVERYBODY, [approval(one) for one in approvers])
    valid = [one for one in approvers if one not in (VIEWER, BOT)]
    expected = {
        DEV: True,
        STAGING: len(valid) >= 1,
        PROD: len(valid) >= 2 and any(one.role >= Role.LEAD for one in valid),
    }[environment]

    assert satisfied(facts, START) is expected


def test_two_decisions_of_one_person_count_once() -> None:
    facts = asked(PROD, EVERYBODY, [approval(LEAD), approval(LEAD, hours=1)])

    assert len(counted(facts, START + HOUR)) == 1
    assert status(facts, START + HOUR) is ApprovalStatus.PENDING


@pytest.mark.parametrize("who", ["requester", "authors"])
def test_approval_by_requester_or_author_is_never_counted_in_prod(who: str) -> None:
    facts = asked(PROD, EVERYBODY, [approval(LEAD), approval(ADMIN)])
    facts = replace(facts, **{who: frozenset({LEAD.id})})  # type: ignore[arg-type]

    assert [one.approver_id for one in counted(facts, START)] == [ADMIN.id]


def test_nothing_is_required_in_dev_or_of_a_rollback() -> None:
    rollback = replace(asked(PROD, EVERYBODY), exempt=True)

    assert status(asked(DEV, ()), START) is ApprovalStatus.NOT_REQUIRED
    assert status(rollback, LATER) is ApprovalStatus.NOT_REQUIRED
    assert decide_by(rollback, START) is None
    assert can_still_approve(rollback, START) == ()
    check_satisfiable(replace(rollback, people={}))


@pytest.mark.parametrize(
    ("change", "why", "hours"),
    [
        ({}, Void.VALIDITY_ENDED, 24),
        ({"digest": "other"}, Void.DIGEST_CHANGED, 0),
        ({"policy_version": 1}, Void.POLICY_CHANGED, 0),
        ({"overrides_version": 1}, Void.OVERRIDES_CHANGED, 0),
        (
            {"outcome": Outcome.REVOKED, "revoked_at": START + 2 * HOUR},
            Void.REVOKED,
            2,
        ),
    ],
)
def test_what_makes_a_decision_void(change: dict[str, object], why: Void, hours: int) -> None:
    decision = replace(approval(LEAD), **change)  # type: ignore[arg-type]
    facts = asked(PROD, EVERYBODY, [decision])
    ends = START + hours * HOUR

    assert void(decision, facts) == (why, ends)
    assert counted(facts, ends) == ()
    assert len(counted(facts, ends - timedelta(seconds=1))) == (1 if hours else 0)


@pytest.mark.parametrize(
    "change", [{"active": False}, {"role": Role.VIEWER}, {"kind": ActorKind.SERVICE}]
)
def test_approver_must_still_qualify(change: dict[str, object]) -> None:
    facts = asked(PROD, EVERYBODY, [approval(LEAD), approval(DEV1)])
    now = replace(DEV1, demoted_at=START + HOUR, **change)  # type: ignore[arg-type]
    changed = replace(facts, people={**facts.people, DEV1.id: now})

    assert satisfied(facts, START + HOUR)
    assert not satisfied(changed, START + HOUR)
    assert void(changed.decisions[1], changed) == (Void.APPROVER_UNQUALIFIED, START + HOUR)


def test_lead_must_have_been_one_and_still_be_one() -> None:
    decisions = [approval(LEAD), approval(DEV1)]
    facts = asked(PROD, EVERYBODY, decisions)
    demoted = {**facts.people, LEAD.id: replace(LEAD, role=Role.DEVELOPER)}
    raised = {**facts.people, DEV1.id: replace(DEV1, role=Role.LEAD)}

    assert satisfied(facts, START)
    assert not satisfied(replace(facts, people=demoted), START)
    two = [approval(DEV1), approval(DEV2)]
    assert not satisfied(replace(facts, people=raised, decisions=tuple(two)), START)


def test_rejection_is_final() -> None:
    rejected = approval(DEV1, hours=1, outcome=Outcome.REJECTED)
    facts = asked(PROD, EVERYBODY, [approval(LEAD), rejected, approval(ADMIN)])

    assert status(facts, LATER) is ApprovalStatus.REJECTED


@pytest.mark.parametrize(
    ("environment", "people", "needed"),
    [
        (PROD, (LEAD,), "2"),
        (PROD, (LEAD, VIEWER, BOT), "2"),
        (PROD, (DEV1, DEV2), "a lead or admin among its 2"),
        (STAGING, (VIEWER,), "1"),
    ],
)
def test_too_few_people(
    environment: EnvironmentType, people: tuple[Person, ...], needed: str
) -> None:
    with pytest.raises(NotEnoughApprovers) as refused:
        check_satisfiable(asked(environment, people))

    assert refused.value.facts["needed"] == needed


def test_requester_and_author_do_not_make_up_the_number() -> None:
    facts = asked(PROD, (LEAD, DEV1, ADMIN), requester=[DEV1], authors=[LEAD])

    assert eligible(facts) == (ADMIN,)
    with pytest.raises(NotEnoughApprovers):
        check_satisfiable(facts)
    check_satisfiable(asked(PROD, (LEAD, DEV1)))


def test_who_can_still_approve() -> None:
    nobody = asked(PROD, EVERYBODY, requester=[DEV2])
    developer = replace(nobody, decisions=(approval(DEV1),))
    lead = replace(nobody, decisions=(approval(LEAD),))

    assert can_still_approve(nobody, START) == (ADMIN, LEAD, LEAD2, DEV1)
    assert can_still_approve(developer, START) == (ADMIN, LEAD, LEAD2)
    assert can_still_approve(lead, START) == (ADMIN, LEAD2, DEV1)


def test_nobody_decides_in_time() -> None:
    facts = asked(PROD, EVERYBODY)
    deadline = START + 72 * HOUR

    assert decide_by(facts, START) == deadline
    assert status(facts, deadline - timedelta(seconds=1)) is ApprovalStatus.PENDING
    assert status(facts, deadline) is ApprovalStatus.EXPIRED


def test_void_decisions_start_the_clock_anew() -> None:
    facts = asked(PROD, EVERYBODY, [approval(LEAD, hours=70), approval(DEV1, hours=71)])

    assert status(facts, START + 80 * HOUR) is ApprovalStatus.APPROVED
    assert valid_until(facts, START + 80 * HOUR) == START + 94 * HOUR
    assert status(facts, START + 94 * HOUR) is ApprovalStatus.PENDING
    assert decide_by(facts, START + 96 * HOUR) == START + (95 + 72) * HOUR
    assert status(facts, START + (95 + 72) * HOUR) is ApprovalStatus.EXPIRED


def test_an_expired_approval_does_not_come_back() -> None:
    facts = asked(PROD, EVERYBODY, [approval(LEAD, hours=60)])

    assert status(facts, START + 72 * HOUR) is ApprovalStatus.EXPIRED
    assert status(facts, START + 85 * HOUR) is ApprovalStatus.EXPIRED


def test_a_changed_policy_gives_time_again() -> None:
    since = START + 71 * HOUR
    policy = replace(default_policy(PROD), version=2, since=since)
    facts = asked(
        PROD, EVERYBODY, [approval(LEAD, hours=60), approval(DEV1, hours=61)], policy=policy
    )

    assert status(facts, since) is ApprovalStatus.PENDING
    assert decide_by(facts, since) == since + 72 * HOUR


def test_surplus_approvals_lengthen_validity() -> None:
    three = [approval(LEAD), approval(DEV1, hours=1), approval(ADMIN, hours=2)]
    facts = asked(PROD, EVERYBODY, three)

    assert valid_until(facts, START + 3 * HOUR) == START + 25 * HOUR
    assert valid_until(facts, START) is None


def test_deciding_binds_to_what_is_true_now() -> None:
    facts = asked(PROD, EVERYBODY)
    now = START + HOUR

    assert decide(facts, LEAD, Outcome.APPROVED, comment="", now=now) == approval(LEAD, hours=1)


def test_a_void_decision_may_be_given_again() -> None:
    facts = asked(PROD, EVERYBODY, [approval(LEAD)])
    with pytest.raises(DecisionExists):
        decide(facts, LEAD, Outcome.REJECTED, comment="no", now=START + HOUR)

    assert decide(facts, LEAD, Outcome.APPROVED, comment="", now=START + HOUR) is None

    again = decide(facts, LEAD, Outcome.APPROVED, comment="", now=START + 25 * HOUR)

    assert again is not None

    renewed = replace(facts, decisions=(*facts.decisions, again))
    assert counted(renewed, START + 25 * HOUR) == (again,)


def test_refused_decisions() -> None:
    facts = asked(PROD, EVERYBODY, requester=[LEAD])
    with pytest.raises(NotPermitted, match="You may not approve here"):
        decide(facts, LEAD, Outcome.APPROVED, comment="", now=START)
    with pytest.raises(ValidationFailed):
        decide(facts, ADMIN, Outcome.REJECTED, comment="  ", now=START)
    with pytest.raises(IllegalTransition, match="is expired"):
        decide(facts, ADMIN, Outcome.APPROVED, comment="", now=LATER)
    with pytest.raises(IllegalTransition, match="is not_required"):
        decide(asked(DEV, EVERYBODY), ADMIN, Outcome.APPROVED, comment="", now=START)


def test_asked_people_are_not_decisions() -> None:
    asked_only = approval(LEAD, outcome=Outcome.PENDING)

    assert counted(asked(PROD, EVERYBODY, [asked_only]), START) == ()


def test_a_void_approval_given_anew_still_tells_when_the_clock_started() -> None:
    void_one = approval(LEAD, hours=60, outcome=Outcome.EXPIRED)
    facts = asked(PROD, EVERYBODY, [void_one, approval(DEV1, hours=71), approval(LEAD, hours=90)])

    assert status(facts, START + 72 * HOUR) is ApprovalStatus.APPROVED
    assert decide_by(facts, START + 96 * HOUR) == START + (95 + 72) * HOUR
    assert status(facts, START + 96 * HOUR) is ApprovalStatus.PENDING


def test_an_expired_row_that_nothing_ended_does_not_count() -> None:
    facts = asked(STAGING, EVERYBODY, [approval(LEAD, outcome=Outcome.EXPIRED)])
    unbounded = replace(facts, policy=replace(facts.policy, valid_for=None))

    assert counted(unbounded, START + HOUR) == ()


def test_unknown_approver_is_not_counted() -> None:
    stranger = person(99, Role.ADMIN)

    assert stranger.id == uid(99)
    assert counted(asked(PROD, EVERYBODY, [approval(stranger)]), START) == ()
