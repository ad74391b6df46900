"""Random situations for the gates, and what becomes of one when somebody follows a gate's advice.

A gate is one entry of `SITUATIONS`: a function that sets its facts at random, and one that does
what its answer says.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

from services.deployment.rules import deciding
from services.deployment.rules.approvals import Decision, Outcome, Person
from services.deployment.rules.freeze_times import OneOff
from services.deployment.rules.freezes import Subject, Window, WindowKind
from services.deployment.rules.gates import Gate, GateAnswer, GateFacts, Occupant
from services.deployment.rules.gates.facts import NOTHING_BEFORE, Line
from services.deployment.rules.lifecycle import OPEN, DeploymentKind
from services.deployment.rules.locks import Lock
from services.deployment.rules.overrides import OverridableGate, Override
from services.deployment.rules.policy import EnvironmentType, QueueMode, default_policy
from services.deployment.rules.promotion import Need, Predecessor, ReleaseFacts
from services.deployment.rules.releases import ReleaseStatus
from shared.identity.actor import ActorKind, Role
from tests.unit.deployment.facts import DIGEST, HOUR, START, approval, asked, person, uid

OFTEN, RARELY = 0.8, 0.15
MINUTE, ODD = timedelta(minutes=1), timedelta(microseconds=250_001)
GOOD = ReleaseFacts(uid(90), "v9", ReleaseStatus.PUBLISHED, DIGEST, START)


@dataclass(frozen=True)
class Moment:
    """A snapshot and when it is looked at; advice may change the facts or take time."""

    facts: GateFacts
    now: datetime


@dataclass(frozen=True)
class Situations:
    """How one gate comes into situations.

    `vary` sets the facts it reads; `follow` does what its answer advises, None when that says that
    nobody can do anything. `refuses` tells whether a request does not wait for it.
    """

    vary: Callable[[Random, GateFacts, datetime], GateFacts]
    follow: Callable[[Moment, GateAnswer], Moment | None]
    refuses: Callable[[GateFacts], bool] = lambda _: False


def situation(chance: Random) -> Moment:
    """Return a random snapshot at a random moment."""
    kind, environment = chance.choice(list(DeploymentKind)), chance.choice(list(EnvironmentType))
    now = START + chance.randrange(100) * HOUR + 30 * MINUTE
    policy = replace(
        default_policy(environment),
        soak=chance.choice((0, 30, 90)) * MINUTE,
        queue=chance.choice(list(QueueMode)),
    )
    facts = GateFacts("auth", "prod", kind, GOOD, asked(environment, (), policy=policy))
    for one in SITUATIONS.values():
        facts = one.vary(chance, facts, now)
    overridden = frozenset(gate for gate in Gate if chance.random() < RARELY / 2)
    return Moment(replace(facts, overridden=overridden), now)


def shuffled(facts: GateFacts, chance: Random) -> GateFacts:
    """Return the same snapshot with everything in it that has no order in another one."""
    request = facts.approval
    people = chance.sample(list(request.people.items()), len(request.people))
    decisions = chance.sample(request.decisions, len(request.decisions))
    return replace(
        facts,
        predecessors=tuple(chance.sample(facts.predecessors, len(facts.predecessors))),
        needs=tuple(chance.sample(facts.needs, len(facts.needs))),
        locks=tuple(chance.sample(facts.locks, len(facts.locks))),
        approval=replace(request, people=dict(people), decisions=tuple(decisions)),
    )


def _do(moment: Moment, **changes: object) -> Moment:
    return replace(moment, facts=replace(moment.facts, **changes))  # type: ignore[arg-type]


def _wait(moment: Moment, answer: GateAnswer) -> Moment:
    """Wait until the time that the sentence names, not until the one that programs read."""
    found = re.search(r"until ([-0-9]+ [:0-9]+) UTC", answer.unblock)
    assert found is not None
    return replace(moment, now=datetime.fromisoformat(found[1]).replace(tzinfo=UTC))


def _ask_again(moment: Moment) -> Moment:
    """Request a new deployment of the same release."""
    request = replace(moment.facts.approval, requested_at=moment.now, decisions=(), overrides=())
    return _do(moment, approval=request, not_before=None, start_by=None, line=NOTHING_BEFORE)


def _vary_release(chance: Random, facts: GateFacts, _now: datetime) -> GateFacts:
    ages = [None, *(START - hours * HOUR for hours in (1, 2, 3))]
    fine = chance.random() < OFTEN
    release = replace(
        GOOD,
        id=uid(91),
        version="v2",
        published_at=chance.choice(ages),
        status=ReleaseStatus.PUBLISHED if fine else chance.choice(list(ReleaseStatus)),
        bad_because="leaks" if chance.random() < RARELY else None,
        archived=chance.random() < RARELY / 3,
    )
    live = replace(GOOD, id=uid(92), version="v1", published_at=chance.choice(ages))
    return replace(
        facts,
        release=release,
        current=live if chance.random() < OFTEN else None,
        allow_downgrade=chance.random() < RARELY,
    )


def _follow_release(moment: Moment, answer: GateAnswer) -> Moment:
    release = moment.facts.release
    if "allow_downgrade" in answer.unblock:
        return _do(moment, allow_downgrade=True)
    if release.bad_because is not None and "clear" in answer.unblock:
        return _do(moment, release=replace(release, bad_because=None))
    return _do(moment, release=GOOD)


def _vary_order(chance: Random, facts: GateFacts, now: datetime) -> GateFacts:
    places = ("dev", "test", "staging")[: chance.choice((0, 1, 2, 2, 3))]
    return replace(facts, predecessors=tuple(_predecessor(chance, each, now) for each in places))


def _predecessor(chance: Random, place: str, now: datetime) -> Predecessor:
    done = chance.random() < OFTEN
    undone = done and chance.random() < RARELY
    lives = done and not undone and chance.random() < OFTEN
    since = now - chance.choice((10, 30, 60, 90, 200)) * MINUTE + chance.choice((0, 1)) * ODD
    return Predecessor(place, done, undone, since if lives else None)


def _complete_where_named(moment: Moment, answer: GateAnswer) -> Moment:
    """Complete it in the environments that the answer names, and nowhere else."""
    completed = tuple(
        Predecessor(place.environment, completed=True, live_since=moment.now)
        if place.environment in answer.why
        else place
        for place in moment.facts.predecessors
    )
    return _do(moment, predecessors=completed)


def _follow_soak(moment: Moment, answer: GateAnswer) -> Moment:
    waits = answer.unblock.startswith("Wait")
    return _wait(moment, answer) if waits else _complete_where_named(moment, answer)


def _vary_dependency(chance: Random, facts: GateFacts, _now: datetime) -> GateFacts:
    services = ("gateway", "payment")[: chance.choice((0, 1, 2))]
    needs = (
        Need(each, chance.choice(("", "2.0")), chance.choice(("", "2.1")), met=True)
        for each in services
    )
    return replace(facts, needs=tuple(replace(need, met=chance.random() < OFTEN) for need in needs))


def _follow_dependency(moment: Moment, answer: GateAnswer) -> Moment:
    needs = (
        replace(need, met=True) if need.service in answer.unblock else need
        for need in moment.facts.needs
    )
    return _do(moment, needs=tuple(needs))


def _vary_not_before(chance: Random, facts: GateFacts, now: datetime) -> GateFacts:
    begin = now + chance.choice((-20, -1, 0, 1, 20)) * MINUTE + ODD
    end = begin + chance.choice((1, 10, 60)) * MINUTE
    return replace(
        facts,
        not_before=begin if chance.random() < 0.5 else None,
        start_by=end if chance.random() < RARELY else None,
    )


def _follow_not_before(moment: Moment, answer: GateAnswer) -> Moment:
    waits = answer.unblock.startswith("Wait")
    return _wait(moment, answer) if waits else _ask_again(moment)


def _vary_freeze(chance: Random, facts: GateFacts, now: datetime) -> GateFacts:
    """Set windows that happen once; schedules that repeat are not the business of a gate."""
    windows = []
    for number in range(chance.choice((0, 0, 0, 1, 2, 3))):
        begins = now + chance.choice((-60, -10, 0, 10, 30)) * MINUTE + chance.choice((0, 1)) * ODD
        windows.append(
            Window(
                uid(50 + number),
                f"freeze {number}",
                chance.choice(list(WindowKind)),
                "holidays",
                "UTC",
                OneOff(begins, begins + chance.choice((10, 60)) * MINUTE),
                rollbacks=chance.random() < RARELY,
            )
        )
    subject = Subject(uid(1), None, uid(2), EnvironmentType.PROD, facts.kind)
    return replace(facts, windows=tuple(windows), subject=subject)


def _follow_freeze(moment: Moment, answer: GateAnswer) -> Moment:
    if answer.unblock.startswith("Wait"):
        return _wait(moment, answer)
    assert "OverrideGate" in answer.unblock
    return _do(moment, overridden=moment.facts.overridden | {Gate.FREEZE})


def _vary_lock(chance: Random, facts: GateFacts, now: datetime) -> GateFacts:
    several = chance.choice((0, 0, 0, 1, 2, 7))
    locks = (
        Lock(
            uid(70 + number),
            "auth in prod",
            "an incident",
            "lead1",
            includes_rollbacks=chance.random() < 1 - OFTEN,
            ends_at=chance.choice((None, now - MINUTE, now, now + MINUTE, now + HOUR + ODD)),
        )
        for number in range(several)
    )
    return replace(facts, locks=tuple(locks))


def _follow_lock(moment: Moment, answer: GateAnswer) -> Moment:
    """Release the locks that are named."""
    left = (lock for lock in moment.facts.locks if str(lock.id) not in answer.unblock)
    return _do(moment, locks=tuple(left))


def _vary_queue(chance: Random, facts: GateFacts, _now: datetime) -> GateFacts:
    waiting = chance.choice((0, 0, 0, 1, 2, 3))
    ready = chance.randrange(waiting + 1)
    first = uid(60) if waiting else None
    return replace(
        facts,
        line=Line(
            first, waiting, first_ready=uid(60 + waiting - ready) if ready else None, ready=ready
        ),
    )


def _follow_queue(moment: Moment, answer: GateAnswer) -> Moment:
    """End the deployment that is named: the slot's holder, or the first that waits."""
    taken, line = moment.facts.occupant, moment.facts.line
    if taken is not None and str(taken.id) in answer.unblock:
        return _do(moment, occupant=None)
    assert str(line.first) in answer.unblock or str(line.first_ready) in answer.unblock
    waiting, ready = line.waiting - 1, min(line.ready, line.waiting - 1)
    if line.first_ready is not None and str(line.first_ready) in answer.unblock:
        ready = line.ready - 1
    following = Line(
        first=uid(60 + 3 - waiting) if waiting else None,
        waiting=waiting,
        first_ready=uid(60 + 3 - ready) if ready else None,
        ready=ready,
    )
    return _do(moment, line=following)


def _vary_slot(chance: Random, facts: GateFacts, _now: datetime) -> GateFacts:
    taken = Occupant(uid(80), chance.choice(sorted(OPEN)), chance.choice(list(DeploymentKind)))
    return replace(facts, occupant=taken if chance.random() > OFTEN else None)


def _vary_approval(chance: Random, facts: GateFacts, now: datetime) -> GateFacts:
    people = [
        person(
            number,
            chance.choice([Role.VIEWER, Role.DEVELOPER, Role.DEVELOPER, Role.LEAD, Role.ADMIN]),
            active=chance.random() > RARELY / 2,
            kind=ActorKind.SERVICE if chance.random() < RARELY / 2 else ActorKind.PERSON,
        )
        for number in range(1, chance.choice((1, 3, 4, 5, 6)))
    ]
    decisions = [_decision(chance, one, now) for one in people if chance.random() < OFTEN]
    again = [_decision(chance, one, now) for one in people if chance.random() < RARELY]
    overriders = frozenset(one.id for one in people if chance.random() < RARELY / 2)
    override = Override(OverridableGate.LOCK, START + HOUR / 2, overriders)
    request = replace(
        facts.approval,
        people={one.id: one for one in people},
        decisions=(*decisions, *again),
        requester=frozenset(one.id for one in people if chance.random() < RARELY),
        authors=frozenset(one.id for one in people if chance.random() < RARELY),
        exempt=facts.kind is DeploymentKind.ROLLBACK,
    )
    if overriders:
        seen = (replace(given, overrides_version=1) for given in request.decisions)
        request = replace(request, decisions=tuple(seen), overrides=(override,))
    return replace(facts, approval=request)


def _decision(chance: Random, approver: Person, now: datetime) -> Decision:
    oddities: tuple[dict[str, object], ...] = (
        {"digest": "sha256:another"},
        {"policy_version": 7},
        {"role": Role.DEVELOPER},
        {"outcome": Outcome.REVOKED},
        {"outcome": Outcome.EXPIRED},
        {"outcome": Outcome.REJECTED},
    )
    odd = chance.choice(oddities) if chance.random() < RARELY else {}
    minutes = chance.randrange(1, (now - START) // timedelta(minutes=1))
    return approval(approver, hours=minutes / 60, **odd)


def _follow_approval(moment: Moment, answer: GateAnswer) -> Moment | None:
    """Ask again if that is the advice, else let everybody who is named approve."""
    if "Request a new" in answer.unblock:
        return _ask_again(moment)
    request = moment.facts.approval
    named = [one for one in request.people.values() if one.username in answer.people]
    for one in named:
        given = deciding.decide(request, one, Outcome.APPROVED, comment="", now=moment.now)
        if given is not None:
            request = replace(request, decisions=(*request.decisions, given))
    return _do(moment, approval=request) if named else None


def _one_at_a_time(facts: GateFacts) -> bool:
    return facts.approval.policy.queue is QueueMode.REJECT


SITUATIONS: Mapping[Gate, Situations] = {
    Gate.RELEASE: Situations(_vary_release, _follow_release, lambda _: True),
    Gate.PROMOTION_ORDER: Situations(_vary_order, _complete_where_named, lambda _: True),
    Gate.SOAK: Situations(lambda _chance, facts, _now: facts, _follow_soak),
    Gate.DEPENDENCY: Situations(_vary_dependency, _follow_dependency),
    Gate.NOT_BEFORE: Situations(_vary_not_before, _follow_not_before),
    Gate.FREEZE: Situations(_vary_freeze, _follow_freeze),
    Gate.LOCK: Situations(_vary_lock, _follow_lock),
    Gate.QUEUE: Situations(_vary_queue, _follow_queue, _one_at_a_time),
    Gate.SLOT: Situations(_vary_slot, lambda moment, _: _do(moment, occupant=None)),
    Gate.APPROVAL: Situations(_vary_approval, _follow_approval),
}
