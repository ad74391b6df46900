"""Gates: each answer, and the one evaluation behind request, start and explanation."""

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from services.deployment.rules.gates import (
    Gate,
    GateFacts,
    GateStatus,
    Occupant,
    blockers,
    check_request,
    check_start,
    evaluate,
)
from services.deployment.rules.history import refuse_duplicate
from services.deployment.rules.lifecycle import OPEN, DeploymentKind, DeploymentStatus
from services.deployment.rules.policy import EnvironmentType, default_policy
from services.deployment.rules.promotion import Predecessor, ReleaseFacts
from services.deployment.rules.releases import ReleaseStatus
from shared.errors import DeploymentExists, GateUnsatisfied, SlotTaken
from shared.identity.actor import Role
from tests.unit.deployment.facts import DIGEST, HOUR, START, Pair, approval, asked, person, uid

LEAD = person(1, Role.LEAD)
DEVELOPER = person(2, Role.DEVELOPER)
PEOPLE = (LEAD, DEVELOPER)
RELEASE = ReleaseFacts(uid(11), "v2", ReleaseStatus.PUBLISHED, DIGEST, START)
OLD = replace(RELEASE, id=uid(10), version="v1", published_at=START - HOUR)
APPROVED = asked(EnvironmentType.PROD, PEOPLE, [approval(LEAD), approval(DEVELOPER)])
READY = GateFacts(
    service="auth",
    environment="prod",
    kind=DeploymentKind.PROMOTE,
    release=RELEASE,
    approval=APPROVED,
    current=OLD,
    predecessors=(
        Predecessor("dev", completed=True, live_since=START - HOUR),
        Predecessor("staging", completed=True, live_since=START - HOUR),
    ),
)
BUSY = Occupant(uid(5), DeploymentStatus.PAUSED)


def state_of(gate: Gate, facts: GateFacts) -> GateStatus:
    """Return what one gate answers at START."""
    return next(answer.status for answer in evaluate(facts, START) if answer.gate is gate)


def test_every_gate_answers_once_in_order() -> None:
    answers = evaluate(READY, START)

    assert [answer.gate for answer in answers] == list(Gate)
    assert blockers(answers) == ()
    check_request(answers, fail_if_blocked=True)
    check_start(READY, answers)


@pytest.mark.parametrize(
    ("status", "bad", "backwards", "allow_downgrade", "kind"),
    list(product(ReleaseStatus, (None, "leaks"), (True, False), (True, False), DeploymentKind)),
)
def test_release_gate(
    status: ReleaseStatus,
    bad: str | None,
    kind: DeploymentKind,
    *,
    backwards: bool,
    allow_downgrade: bool,
) -> None:
    published = START - 2 * HOUR if backwards else START
    release = replace(RELEASE, status=status, bad_because=bad, published_at=published)
    facts = replace(READY, release=release, kind=kind, allow_downgrade=allow_downgrade)
    passes = (
        status not in ("draft", "abandoned")
        and bad is None
        and (not backwards or allow_downgrade or kind == "rollback")
    )

    expected = GateStatus.SATISFIED if passes else GateStatus.UNSATISFIED
    assert state_of(Gate.RELEASE, facts) is expected


def test_downgrade_is_refused_with_the_way_to_ask_for_it() -> None:
    facts = replace(READY, release=OLD, current=RELEASE)

    answer = evaluate(facts, START)[0]

    assert answer.why == "v1: it is older than v2, which is live"
    assert "allow_downgrade" in answer.unblock


def test_a_draft_is_refused_with_the_call_that_publishes_it() -> None:
    facts = replace(READY, release=replace(RELEASE, status=ReleaseStatus.DRAFT))

    assert evaluate(facts, START)[0].unblock == "Publish it with PublishRelease."


@pytest.mark.parametrize(
    ("completed", "rolled_back", "kind"),
    list(product((True, False), (True, False), DeploymentKind)),
)
def test_promotion_order(kind: DeploymentKind, *, completed: bool, rolled_back: bool) -> None:
    staging = Predecessor("staging", completed=completed, rolled_back=completed and rolled_back)
    facts = replace(READY, kind=kind, predecessors=(Predecessor("dev", completed=True), staging))
    if kind is DeploymentKind.ROLLBACK:
        expected = GateStatus.NOT_APPLICABLE
    else:
        passes = completed and not rolled_back
        expected = GateStatus.SATISFIED if passes else GateStatus.UNSATISFIED

    assert state_of(Gate.PROMOTION_ORDER, facts) is expected


def test_first_environment_has_no_order() -> None:
    facts = replace(READY, predecessors=())

    assert state_of(Gate.PROMOTION_ORDER, facts) is GateStatus.NOT_APPLICABLE


def test_request_is_refused_by_what_no_waiting_cures() -> None:
    missing = (Predecessor("staging", completed=False, live_since=START - HOUR),)
    waiting = asked(EnvironmentType.PROD, PEOPLE)
    facts = replace(READY, predecessors=missing, occupant=BUSY, approval=waiting)

    with pytest.raises(GateUnsatisfied, match="it has not completed in staging") as refused:
        check_request(evaluate(facts, START))

    assert [violation.gate for violation in refused.value.gates] == ["promotion_order"]


def test_request_waits_for_the_rest_unless_told_not_to() -> None:
    facts = replace(READY, occupant=BUSY, approval=asked(EnvironmentType.PROD, PEOPLE))
    answers = evaluate(facts, START)

    check_request(answers)
    with pytest.raises(GateUnsatisfied) as refused:
        check_request(answers, fail_if_blocked=True)

    assert [violation.gate for violation in refused.value.gates] == ["slot", "approval"]


def test_start_names_the_holder_when_only_the_slot_is_missing() -> None:
    facts = replace(READY, occupant=BUSY)
    with pytest.raises(SlotTaken) as refused:
        check_start(facts, evaluate(facts, START))
    assert refused.value.facts["deployment"] == str(BUSY.id)

    facts = replace(facts, approval=asked(EnvironmentType.PROD, PEOPLE))
    with pytest.raises(GateUnsatisfied) as all_of_it:
        check_start(facts, evaluate(facts, START))
    assert len(all_of_it.value.gates) == 2


def test_approval_answer_says_who_can_unblock_and_until_when() -> None:
    facts = replace(READY, approval=asked(EnvironmentType.PROD, PEOPLE, [approval(DEVELOPER)]))

    answer = evaluate(facts, START)[-1]

    assert answer.why == "1 of 2 approvals, none of them by a lead or admin"
    assert answer.unblock == "ApproveDeployment by user1."
    assert answer.people == (LEAD.username,)
    assert answer.deadline == START + timedelta(days=3)


@pytest.mark.parametrize("environment", EnvironmentType)
def test_approval_gate_by_environment(environment: EnvironmentType) -> None:
    unapproved = replace(READY, approval=asked(environment, PEOPLE))
    required = default_policy(environment).required_approvals > 0

    expected = GateStatus.UNSATISFIED if required else GateStatus.NOT_APPLICABLE
    assert state_of(Gate.APPROVAL, unapproved) is expected


def test_approved_gate_says_how_long_and_an_expired_one_what_to_do() -> None:
    assert evaluate(READY, START)[-1].deadline == START + 24 * HOUR
    late = replace(READY, approval=asked(EnvironmentType.PROD, PEOPLE))
    answer = evaluate(late, START + 100 * HOUR)[-1]

    assert answer.why == "the approval is expired"
    assert answer.unblock == "Request a new deployment with PromoteRelease."


def test_only_an_unsatisfied_gate_is_overridden() -> None:
    overridden = frozenset({Gate.RELEASE, Gate.PROMOTION_ORDER})
    missing = (Predecessor("staging", completed=False, live_since=START - HOUR),)
    facts = replace(READY, predecessors=missing, overridden=overridden)

    assert state_of(Gate.PROMOTION_ORDER, facts) is GateStatus.OVERRIDDEN
    assert state_of(Gate.RELEASE, facts) is GateStatus.SATISFIED
    check_start(facts, evaluate(facts, START))


@pytest.mark.parametrize("status", DeploymentStatus)
def test_same_release_is_not_asked_for_twice(status: DeploymentStatus) -> None:
    pair = Pair()
    entry = pair.add("v1", status)
    history = tuple(pair.deployments.values())
    refuse_duplicate(history, uid(4), environment="prod")

    if status not in OPEN:
        refuse_duplicate(history, entry.release_id, environment="prod")
        return

    with pytest.raises(DeploymentExists) as refused:
        refuse_duplicate(history, entry.release_id, environment="prod")
    assert refused.value.facts["deployment"] == str(entry.id)
