"""The queue: who is next, what a position means, and what each mode does with those behind."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.deployment.rules.approvals import ApprovalFacts
from services.deployment.rules.gates import (
    Gate,
    GateAnswer,
    GateFacts,
    GateStatus,
    Line,
    Occupant,
    check_request,
    evaluate,
    ready,
)
from services.deployment.rules.gates.line import Waiting, line_up
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus
from services.deployment.rules.policy import EnvironmentType, QueueMode, default_policy
from shared.errors import GateUnsatisfied
from tests.unit.deployment.facts import HOUR, START, asked, uid
from tests.unit.deployment.test_gates import BUSY, PEOPLE, READY

UNAPPROVED = replace(READY, approval=asked(EnvironmentType.PROD, PEOPLE))


def queue(facts: GateFacts) -> GateAnswer:
    """Return what the queue says."""
    return next(said for said in evaluate(facts, START) if said.gate is Gate.QUEUE)


def under(mode: QueueMode, approval: ApprovalFacts = READY.approval) -> ApprovalFacts:
    """Return an approval whose policy has this mode."""
    return replace(approval, policy=replace(approval.policy, queue=mode))


def waiting(number: int, facts: GateFacts = READY, *, outdated: bool = False) -> Waiting:
    """Return a deployment that was requested some hours after START."""
    return Waiting(uid(number), START + number * HOUR, facts, outdated)


def test_production_queues_and_the_others_supersede() -> None:
    modes = {kind: default_policy(kind).queue for kind in EnvironmentType}
    assert modes == {
        EnvironmentType.DEV: QueueMode.SUPERSEDE,
        EnvironmentType.STAGING: QueueMode.SUPERSEDE,
        EnvironmentType.PROD: QueueMode.QUEUE,
    }


def test_the_oldest_that_could_start_is_next() -> None:
    entries = [waiting(4), waiting(2), waiting(3), waiting(1, UNAPPROVED)]
    lines = line_up(entries, START)
    said = {number: queue(replace(READY, line=lines[uid(number)])) for number in range(1, 5)}
    satisfied = [n for n, one in said.items() if one.status is GateStatus.SATISFIED]
    assert satisfied == [1, 2]  # the first waits for approval, and blocks nobody
    assert [said[number].position for number in range(1, 5)] == [1, 1, 2, 3]
    assert str(uid(2)) in said[3].why
    assert said[4].unblock == f"Start deployment {uid(2)} first, or stop it with CancelDeployment."


def test_following_the_advice_leads_to_the_front() -> None:
    entries = [waiting(number) for number in range(1, 5)]
    for left in range(4, 0, -1):
        last = queue(replace(READY, line=line_up(entries, START)[uid(4)]))
        assert last.position == left
        entries = entries[1:]
    assert last.status is GateStatus.SATISFIED


def test_what_is_outdated_or_too_late_blocks_nobody() -> None:
    late = replace(READY, start_by=START)
    lines = line_up([waiting(1, outdated=True), waiting(2, late), waiting(3)], START)
    assert queue(replace(READY, line=lines[uid(3)])).status is GateStatus.SATISFIED
    assert (lines[uid(3)].waiting, lines[uid(3)].ready) == (2, 0)


def test_the_slot_and_the_queue_are_no_reason_not_to_be_ready() -> None:
    behind = Line(first=uid(8), waiting=1, first_ready=uid(8), ready=1)
    assert ready(replace(READY, occupant=BUSY, line=behind), START)
    assert not ready(UNAPPROVED, START)


@given(st.lists(st.booleans(), max_size=12))
def test_positions_are_those_of_a_queue_of_the_ready(could: list[bool]) -> None:
    entries = [waiting(n, READY if yes else UNAPPROVED) for n, yes in enumerate(could)]
    lines = line_up(entries, START)
    for number, line in ((n, lines[uid(n)]) for n in range(len(could))):
        before = [n for n in range(number) if could[n]]
        assert queue(replace(READY, line=line)).position == len(before) + 1
        assert line.first_ready == (uid(before[0]) if before else None)
        assert (line.waiting, line.first) == (number, uid(0) if number else None)


@pytest.mark.parametrize("mode", QueueMode)
@pytest.mark.parametrize("kind", DeploymentKind)
def test_who_waits_for_whom(mode: QueueMode, kind: DeploymentKind) -> None:
    line = line_up([waiting(1), waiting(2)], START)[uid(2)]
    said = queue(replace(READY, approval=under(mode), kind=kind, line=line))
    free = kind is DeploymentKind.ROLLBACK or mode is QueueMode.SUPERSEDE
    assert said.status is (GateStatus.NOT_APPLICABLE if free else GateStatus.UNSATISFIED)
    assert said.position == (0 if free else 2)
    assert said.refuses is (mode is QueueMode.REJECT and not free)


def test_one_at_a_time_refuses_the_second_and_names_the_first() -> None:
    rejecting = replace(READY, approval=under(QueueMode.REJECT))
    second = replace(rejecting, line=line_up([waiting(1, UNAPPROVED), waiting(2)], START)[uid(2)])
    with pytest.raises(GateUnsatisfied, match=str(uid(1))) as refused:
        check_request(evaluate(second, START))
    assert [violation.gate for violation in refused.value.gates] == ["queue"]
    check_request(evaluate(rejecting, START))


@pytest.mark.parametrize("kind", DeploymentKind)
def test_one_at_a_time_counts_what_runs_except_a_rollback(kind: DeploymentKind) -> None:
    runs = Occupant(uid(7), DeploymentStatus.IN_PROGRESS, kind)
    said = queue(replace(READY, approval=under(QueueMode.REJECT), occupant=runs))
    if kind is DeploymentKind.ROLLBACK:
        assert said.status is GateStatus.SATISFIED
        return
    assert said.why == f"deployment {uid(7)} is in-progress, and prod takes one at a time"
