"""Rollback: the rules and a second telling of them give the same answers on any history."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from services.deployment.rules.board import pair_state
from services.deployment.rules.candidates import judge
from services.deployment.rules.history import Deployed, completions, latest_touched, live
from services.deployment.rules.lifecycle import DeploymentKind, DeploymentStatus, FailureClass
from services.deployment.rules.policy import EnvironmentType, default_policy
from services.deployment.rules.promotion import ReleaseFacts
from services.deployment.rules.releases import ReleaseStatus
from services.deployment.rules.rollback import plan
from services.deployment.rules.targets import Place, Wish
from shared.domain_error import DomainError
from shared.identity.actor import Role
from tests.support.rollback_model import Answer, Attempt, Pair
from tests.unit.deployment.facts import START as MIDNIGHT
from tests.unit.deployment.facts import uid
from tests.unit.deployment.histories import (
    RELEASES,
    Event,
    Request,
    Start,
    random_history,
    requests,
    shortest,
    told,
)

HISTORIES = 10_000
SEED = 20_300_101
RELEASE_IDS = {release: uid(1000 + number) for number, release in enumerate(RELEASES)}
PROD = default_policy(EnvironmentType.PROD)


def ok(*releases: str) -> list[Event]:
    """Let these complete in turn."""
    return [Event("ok", release) for release in releases]


BACK = Event("back")
TABLE: dict[str, tuple[list[Event], str]] = {
    "v1, v2": (ok("v1", "v2"), "v1"),
    "v1, v2, v3 failed after deploy began": ([*ok("v1", "v2"), Event("fails", "v3")], "v2"),
    "v1, v2, v3 failed in test": ([*ok("v1", "v2"), Event("fails in test", "v3")], "v1"),
    "v1, v2, back": ([*ok("v1", "v2"), BACK], "NO_STABLE_RELEASE"),
    "v0, v1, v2, back": ([*ok("v0", "v1", "v2"), BACK], "v0"),
    "v0, v1, v2, back, back": ([*ok("v0", "v1", "v2"), BACK, BACK], "NO_STABLE_RELEASE"),
    "v1, v2, back, v3": ([*ok("v1", "v2"), BACK, *ok("v3")], "v1"),
    "v1, v2, back, v2 on purpose, v3": (
        [*ok("v1", "v2"), BACK, Event("cleared", "v2"), *ok("v2", "v3")],
        "v2",
    ),
    "v1, v2, v2": (ok("v1", "v2", "v2"), "v1"),
    "v0, v1 marked bad, v2": ([*ok("v0", "v1"), Event("bad", "v1"), *ok("v2")], "v0"),
    "v1, v2, v1 on purpose": (ok("v1", "v2", "v1"), "v2"),
    "v1, v2, back fails": ([*ok("v1", "v2"), Event("back fails")], "v1"),
    "v1, v2, back fails, back": (
        [*ok("v1", "v2"), Event("back fails"), BACK],
        "NO_STABLE_RELEASE",
    ),
    "v1": (ok("v1"), "NO_STABLE_RELEASE"),
}


def deployed(each: Attempt) -> Deployed:
    """Return an attempt of the model as the rules take it."""
    undoes = None if each.rollback_of < 0 else uid(each.rollback_of)
    return Deployed(
        id=uid(each.number),
        release_id=RELEASE_IDS[each.release],
        version=each.release,
        kind=DeploymentKind.ROLLBACK if each.is_rollback else DeploymentKind.DEPLOY,
        status=DeploymentStatus(each.status),
        created_at=MIDNIGHT + timedelta(seconds=each.number),
        touched_seq=each.touched or None,
        completed_seq=each.completed or None,
        completed_at=MIDNIGHT + timedelta(minutes=each.completed_at) if each.completed else None,
        failure_class=FailureClass(each.failure) if each.failure else None,
        rollback_of=undoes,
        strict_omitted=each.strict_missed,
    )


def place_of(pair: Pair) -> Place:
    """Return the pair of the model as the rules take it; no order of the rows is promised them."""
    releases = {
        RELEASE_IDS[version]: ReleaseFacts(
            id=RELEASE_IDS[version],
            version=version,
            status=ReleaseStatus.ABANDONED if version in pair.abandoned else ReleaseStatus.PROMOTED,
            digest=version,
            published_at=MIDNIGHT,
            bad_because="leaks" if version in pair.bad else None,
            irreversible=version in pair.irreversible,
        )
        for version in RELEASES
    }
    history = tuple(deployed(each) for each in reversed(pair.attempts))
    policy = replace(PROD, stable_after=timedelta(minutes=pair.stable_after))
    return Place("auth", "prod", history, releases, policy)


def by_rules(pair: Pair, place: Place, request: Request) -> Answer:
    """Return what the rules answer, in the words of the model."""
    number, wanted, preempt, lead = request
    holder = pair.holder()
    wish = Wish(
        subject=uid(number),
        role=Role.LEAD if lead else Role.DEVELOPER,
        target_release=RELEASE_IDS[wanted] if wanted else None,
        preempt=preempt,
        holder_claimed=holder is not None and holder.claimed,
    )
    try:
        made = plan(place, wish, MIDNIGHT + timedelta(minutes=pair.now))
    except DomainError as refused:
        return Answer(refused.reason)
    stops = made.preempts
    stopped = {"cancel": "cancelled", "request_cancel": "cancelling"}
    return Answer(
        target=made.target.id.int,
        rollback_of=made.rollback_of.int,
        unproven=made.unproven,
        marks_bad=made.marks_bad,
        supersedes=tuple(sorted(each.int for each in made.supersedes)),
        stops=-1 if stops is None else stops.holder.id.int,
        stopped="" if stops is None else stopped[stops.action],
        subject_waits=made.subject_waits,
    )


def by_model(pair: Pair, request: Request) -> Answer:
    """Return what the model answers."""
    number, wanted, preempt, lead = request
    return pair.rollback(pair.attempts[number], wanted, preempt=preempt, may_name=lead)


def asked_of_both(pair: Pair) -> dict[Request, tuple[Answer, Answer]]:
    """Return what the rules and the model answer to every request."""
    place = place_of(pair)
    return {each: (by_rules(pair, place, each), by_model(pair, each)) for each in requests(pair)}


def differences(pair: Pair, answers: Mapping[Request, tuple[Answer, Answer]]) -> list[str]:
    """Return everything that the rules and the model see differently."""
    place, now = place_of(pair), MIDNIGHT + timedelta(minutes=pair.now)
    done = completions(place.history)
    verdicts = judge(done, place.releases, place.policy, now)
    current, latest = live(place.history), latest_touched(place.history)
    seen: dict[str, tuple[object, object]] = {
        "live": (current and current.id.int, (one := pair.live()) and one.number),
        "subject": (latest and latest.id.int, (one := pair.subject()) and one.number),
        "stable": (
            {key.int for key, verdict in verdicts.items() if verdict is None},
            {each.number for each in pair.attempts if pair.stable(each)},
        ),
        "health": (pair_state(place.history).health.value, pair.health()),
    }
    both = (*seen.items(), *answers.items())
    return [f"{what}: {one} != {other}" for what, (one, other) in both if one != other]


def differ(start: Start, events: Sequence[Event]) -> bool:
    """Tell whether the rules and the model see a history differently."""
    pair = told(start, events)
    return bool(differences(pair, asked_of_both(pair)))


@pytest.mark.parametrize("clearing", [True, False])
@pytest.mark.parametrize(("events", "expected"), TABLE.values(), ids=TABLE)
def test_history_in_prod(events: list[Event], expected: str, *, clearing: bool) -> None:
    """The answers do not lean on the bad marks that rollbacks leave: they hold without them."""
    said = [event for event in events if event.what == "bad"]
    pair = told(Start(), [*events, Event("cleared"), *said] if clearing else events)
    subject = pair.subject()
    assert subject is not None

    answer = pair.rollback(subject)

    assert (answer.reason or pair.attempts[answer.target].release) == expected
    assert differences(pair, asked_of_both(pair)) == []


def test_row_about_what_never_touched_names_the_subject() -> None:
    pair = told(Start(), TABLE["v1, v2, v3 failed in test"][0])

    answers = [pair.rollback(each).reason for each in pair.attempts]

    assert answers == ["STALE_ROLLBACK", "", "NOTHING_DEPLOYED"]


def kinds(pair: Pair, request: Request, answer: Answer) -> Iterator[str]:
    """Say what sort of answer this is, in each respect that could go wrong by itself."""
    number, wanted, _, _ = request
    subject, before = pair.attempts[number], pair.live()
    if answer.reason:
        yield answer.reason
        return
    target = pair.attempts[answer.target]
    retried = subject.is_rollback and not subject.completed
    if wanted:
        yield "named target"
    elif subject.completed:
        yield "newest stable before a completed one"
    elif retried:
        yield "same target again" if target.release == subject.release else "below a failed target"
    elif target is before:
        yield "what was live"
    else:
        undone = before is not None and pair.usable(before.release)
        yield "below what was undone" if undone else "below what may not be used"
    if target.release == subject.release and not retried:
        yield "restored by its own release"
    newer = [each for each in pair.completions() if target.completed < each.completed]
    for each in newer if subject.completed and not wanted else ():
        yield from passed_over(pair, each)
    yield "blamed" if answer.marks_bad else "not blamed"
    yield from (
        name for name in ("unproven", "supersedes", "subject_waits") if getattr(answer, name)
    )
    if answer.stopped:
        yield f"holder is {answer.stopped}"


def passed_over(pair: Pair, each: Attempt) -> Iterator[str]:
    """Say why a completion was not chosen, where there is only one reason."""
    if each.status != "completed" or not pair.usable(each.release):
        return
    if pair.lived(each) < pair.stable_after:
        yield "passed over: too short"
    elif pair.rolled_back_since(each):
        yield "passed over: rolled back since"
    elif not pair.strict_passed(each):
        yield "passed over: strict rollback" if each.is_rollback else "passed over: strict stage"


# How many of the histories show each sort of answer, at the very least.
AT_LEAST = {
    **dict.fromkeys(("STALE_ROLLBACK", "TARGET_NEVER_DEPLOYED", "GATE_UNSATISFIED"), 2000),
    **dict.fromkeys(("NOTHING_DEPLOYED", "NO_STABLE_RELEASE", "NOT_PERMITTED"), 1000),
    **dict.fromkeys(("ROLLBACK_EXISTS", "SLOT_TAKEN", "ROLLBACK_BLOCKED"), 500),
    **dict.fromkeys(
        ("newest stable before a completed one", "what was live", "named target"), 1000
    ),
    **dict.fromkeys(("same target again", "restored by its own release"), 300),
    "below a failed target": 50,
    "below what may not be used": 50,
    "below what was undone": 50,
    **dict.fromkeys(("passed over: strict stage", "passed over: rolled back since"), 50),
    **dict.fromkeys(("passed over: strict rollback", "passed over: too short"), 20),
    **dict.fromkeys(("blamed", "not blamed", "unproven"), 1000),
    **dict.fromkeys(("supersedes", "subject_waits"), 100),
    **dict.fromkeys(("holder is cancelled", "holder is cancelling"), 100),
    **dict.fromkeys(("healthy", "degraded", "deploying", "rolling_back", "nothing_deployed"), 100),
}


def test_rules_and_model_agree_on_ten_thousand_histories() -> None:
    chance, seen = Random(SEED), Counter[str]()
    for _ in range(HISTORIES):
        start, events = random_history(chance)
        pair = told(start, events)
        answers = asked_of_both(pair)
        found = differences(pair, answers)
        if found:
            pytest.fail(f"{start} {shortest(start, events, differ)}; in the whole of it {found}")
        shown = {
            kind for each, (_, told_by) in answers.items() for kind in kinds(pair, each, told_by)
        }
        seen.update({*shown, pair.health()})
    assert {kind: seen[kind] for kind, least in AT_LEAST.items() if seen[kind] < least} == {}
    assert set(seen) <= set(AT_LEAST)


@pytest.mark.parametrize("clearing", [True, False])
def test_rollbacks_in_a_row_never_repeat_a_release_and_end(*, clearing: bool) -> None:
    """`clearing` removes every bad mark in between, so that only what was rolled back counts."""
    chance, lengths = Random(SEED), Counter[int]()
    for _ in range(HISTORIES // 10):
        pair = told(*random_history(chance))
        picked = roll_back_until_refused(pair, clearing=clearing)
        assert len(set(picked)) == len(picked)
        lengths[len(picked)] += 1
    assert min(lengths[1], lengths[2]) >= HISTORIES // 100


def roll_back_until_refused(pair: Pair, *, clearing: bool) -> list[str]:
    """Let every rollback that the rules allow complete; returns the releases gone back to."""
    picked: list[str] = []
    while (subject := pair.subject()) is not None:
        answer = by_rules(pair, place_of(pair), (subject.number, "", True, False))
        if answer.reason:
            return picked
        target, retried = pair.attempts[answer.target], subject.is_rollback
        live = pair.live()
        assert target.release not in pair.bad | pair.abandoned
        assert live is None or not subject.completed or live.release != target.release
        assert not pair.rolled_back_since(target) or (retried and not subject.completed)
        carrier = pair.start_rollback(subject, answer)
        holder = pair.holder()
        if holder is not None:
            pair.cancel(holder)
        pair.complete(carrier)
        picked.append(target.release)
        pair.now += 15
        if clearing:
            pair.bad.clear()
    return picked


def test_rollbacks_walk_down() -> None:
    pair = told(Start(), ok(*RELEASES))

    assert roll_back_until_refused(pair, clearing=True) == ["v2", "v1", "v0"]


def test_release_that_was_undone_is_not_restored_below_a_failed_attempt() -> None:
    """Its bad mark was cleared, so that it may be deployed again, but not by a silent choice."""
    undone = [*ok("v0", "v1", "v1"), Event("back is cancelled"), Event("cleared")]
    pair = told(Start(), [*undone, Event("errs", "v2")])
    live, subject = pair.live(), pair.subject()
    assert live is not None
    assert subject is not None

    answer = by_rules(pair, place_of(pair), (subject.number, "", False, False))

    assert live.release == "v1"
    assert pair.attempts[answer.target].release == "v0"


def test_model_and_policy_mean_the_same_time() -> None:
    assert PROD.stable_after == timedelta(minutes=Start().stable_after)
