"""Gates: what is explained, what refuses and what starts are one thing, and the advice is true."""

from collections import Counter
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random

import pytest

from services.deployment.rules import approvals, deciding
from services.deployment.rules.approvals import Outcome
from services.deployment.rules.gates import (
    Gate,
    GateAnswer,
    GateFacts,
    GateStatus,
    blockers,
    check_request,
    check_start,
    evaluate,
)
from shared.domain_error import DomainError
from shared.errors import GateUnsatisfied, SlotTaken
from tests.unit.deployment.situations import SITUATIONS, Moment, shuffled, situation

SITUATIONS_ASKED = 10_000
SEED = 20_300_101
AT_LEAST = 50
# Advice may lead to further advice: a bad mark is cleared, then the release turns out to be older.
MOST_STEPS = 6
INSTANT = timedelta(microseconds=1)
Answers = tuple[GateAnswer, ...]


def gates_of(error: DomainError | None) -> list[str]:
    """Return the gates that an error names, none for no error."""
    return [] if error is None else [violation.gate for violation in error.gates]


def refused_request(answers: Answers, *, fail_if_blocked: bool) -> GateUnsatisfied | None:
    """Return what a request is refused with."""
    try:
        check_request(answers, fail_if_blocked=fail_if_blocked)
    except GateUnsatisfied as refused:
        return refused
    return None


def refused_start(facts: GateFacts, answers: Answers) -> GateUnsatisfied | SlotTaken | None:
    """Return what a start is refused with."""
    try:
        check_start(facts, answers)
    except (GateUnsatisfied, SlotTaken) as refused:
        return refused
    return None


def answer_of(gate: Gate, facts: GateFacts, now: datetime) -> GateAnswer:
    """Return what one gate says."""
    return next(answer for answer in evaluate(facts, now) if answer.gate is gate)


def check_agreement(facts: GateFacts, answers: Answers) -> None:
    """Request and start are refused for exactly the blockers that are shown, in their words."""
    waiting = blockers(answers)
    shown = [answer.gate for answer in waiting]
    assert [answer.gate for answer in answers] == list(Gate)
    assert all(answer.why for answer in answers)
    assert all(answer.unblock for answer in waiting)

    start = refused_start(facts, answers)
    assert gates_of(start) == shown
    assert isinstance(start, SlotTaken) is (shown == [Gate.SLOT])
    told = [] if start is None else [(one.subject, one.description) for one in start.gates]
    assert told == [(answer.why, answer.unblock) for answer in waiting]
    refusing = [gate for gate in shown if SITUATIONS[gate].refuses(facts)]
    assert gates_of(refused_request(answers, fail_if_blocked=False)) == refusing
    assert gates_of(refused_request(answers, fail_if_blocked=True)) == shown


def check_same_again(facts: GateFacts, now: datetime, answers: Answers, chance: Random) -> None:
    """The answers depend on the facts, not on the order in which they are listed."""
    others = evaluate(shuffled(facts, chance), now)
    assert evaluate(facts, now) == answers
    for one, other in zip(answers, others, strict=True):
        assert (one.status, one.deadline, one.earliest) == (
            other.status,
            other.deadline,
            other.earliest,
        )
        assert sorted(one.people) == sorted(other.people)


def check_times(facts: GateFacts, now: datetime) -> None:
    """A moment that an answer names is the one at which the gate changes its mind."""
    for answer in evaluate(facts, now):
        gate, ends, opens = answer.gate, answer.deadline, answer.earliest
        if opens is not None:
            assert opens > now
            assert answer_of(gate, facts, opens - INSTANT).status is answer.status
            assert answer_of(gate, facts, opens).status is not GateStatus.UNSATISFIED
        elif ends is not None and ends > now:
            later = answer_of(gate, facts, ends)
            assert answer_of(gate, facts, ends - INSTANT).status is answer.status
            assert (later.why, later.deadline) != (answer.why, answer.deadline)


def check_overrides(facts: GateFacts, now: datetime, answers: Answers) -> None:
    """An override turns exactly what is not satisfied into overridden."""
    without = evaluate(replace(facts, overridden=frozenset()), now)
    for one, bare in zip(answers, without, strict=True):
        turned = bare.status is GateStatus.UNSATISFIED and one.gate in facts.overridden
        assert one.status is (GateStatus.OVERRIDDEN if turned else bare.status)
        assert (one.why, one.unblock) == (bare.why, bare.unblock)


def nobody_can_approve(facts: GateFacts, now: datetime) -> bool:
    """Tell whether the deployment stays unapproved when everybody approves who may."""
    request = facts.approval
    for one in approvals.eligible(request):
        given = deciding.decide(request, one, Outcome.APPROVED, comment="", now=now)
        if given is not None:
            request = replace(request, decisions=(*request.decisions, given))
    return not approvals.satisfied(request, now)


def follow(moment: Moment, answer: GateAnswer) -> Moment | None:
    """Do what one gate advises until it is satisfied; None if it says that nobody can."""
    gate = answer.gate
    for _ in range(MOST_STEPS):
        after = SITUATIONS[gate].follow(moment, answer)
        if after is None:
            assert gate is Gate.APPROVAL
            assert nobody_can_approve(moment.facts, moment.now)
            return None
        assert after != moment
        moment, answer = after, answer_of(gate, after.facts, after.now)
        if answer.status is not GateStatus.UNSATISFIED:
            return moment
    pytest.fail(f"{gate}: the advice leads nowhere: {answer}")


def test_every_gate_comes_into_situations() -> None:
    assert set(SITUATIONS) == set(Gate)


def test_explanation_request_and_start_never_disagree() -> None:
    chance, seen = Random(SEED), Counter[tuple[Gate, GateStatus]]()
    outcomes = Counter[str]()
    for _ in range(SITUATIONS_ASKED):
        moment = situation(chance)
        facts, now = moment.facts, moment.now
        answers = evaluate(facts, now)
        check_agreement(facts, answers)
        check_overrides(facts, now, answers)
        check_same_again(facts, now, answers, chance)
        seen.update((answer.gate, answer.status) for answer in answers)
        outcomes[type(refused_start(facts, answers)).__name__] += 1
    possible = {(gate, status) for gate in Gate for status in GateStatus} - NEVER
    assert {one: seen[one] for one in possible if seen[one] < AT_LEAST} == {}
    assert {one for one in outcomes if outcomes[one] >= AT_LEAST} == STARTS


def test_advice_is_true() -> None:
    """What a gate advises satisfies it, and following all advice starts the deployment."""
    chance, followed = Random(SEED + 1), Counter[str]()
    for _ in range(SITUATIONS_ASKED // 4):
        moment = situation(chance)
        check_times(replace(moment.facts, overridden=frozenset()), moment.now)
        for _ in range(2 * len(Gate)):
            waiting = blockers(evaluate(moment.facts, moment.now))
            if not waiting:
                break
            after = follow(moment, waiting[0])
            if after is None:
                followed["nobody can approve"] += 1
                break
            moment = after
            followed[waiting[0].gate] += 1
        else:
            pytest.fail(f"the advice goes round in a circle: {moment}")
    assert {
        one: followed[one] for one in (*Gate, "nobody can approve") if followed[one] < 100
    } == {}


# Answers that a gate has no occasion to give.
NEVER = {(Gate.RELEASE, GateStatus.NOT_APPLICABLE), (Gate.SLOT, GateStatus.NOT_APPLICABLE)}
# How a start ends: with no error or one of two.
STARTS = {"NoneType", "SlotTaken", "GateUnsatisfied"}
