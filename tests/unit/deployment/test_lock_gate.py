"""The gate of locks, and which locks are refused when they are made."""

from datetime import datetime, timedelta

import pytest

from services.deployment.rules.gates import Gate, GateAnswer, GateFacts, GateStatus, evaluate
from services.deployment.rules.lifecycle import DeploymentKind
from services.deployment.rules.locks import LONGEST, Lock, check_new, place
from services.deployment.rules.policy import EnvironmentType
from services.deployment.rules.promotion import ReleaseFacts
from services.deployment.rules.releases import ReleaseStatus
from shared.errors import ValidationFailed
from tests.unit.deployment.facts import HOUR, START, asked, uid

_TICK = timedelta(microseconds=1)


def locked(number: int = 1, hours: float | None = None, *, rollbacks: bool = False) -> Lock:
    """Return a lock that ends so many hours after START."""
    ends = None if hours is None else START + hours * HOUR
    return Lock(uid(number), "auth in dev", f"incident {number}", "lead1", rollbacks, ends)


def answer(
    *locks: Lock,
    kind: DeploymentKind = DeploymentKind.DEPLOY,
    now: datetime = START,
    overridden: bool = False,
) -> GateAnswer:
    """Return what the gate says of a deployment under these locks."""
    facts = GateFacts(
        service="auth",
        environment="dev",
        kind=kind,
        release=ReleaseFacts(uid(9), "v1", ReleaseStatus.PUBLISHED, "v1", START),
        approval=asked(EnvironmentType.DEV, ()),
        locks=locks,
        overridden=frozenset({Gate.LOCK} if overridden else ()),
    )
    (found,) = [one for one in evaluate(facts, now) if one.gate is Gate.LOCK]
    return found


def test_nothing_is_locked() -> None:
    assert answer().status is GateStatus.SATISFIED


def test_a_lock_says_who_why_until_when_and_what_to_do() -> None:
    found = answer(locked(1, 2))
    assert found.status is GateStatus.UNSATISFIED
    assert found.why == "lead1 has locked auth in dev until 2030-01-01 02:00 UTC (incident 1)"
    assert found.unblock == f"ReleaseLock {uid(1)}."
    assert found.earliest == START + 2 * HOUR


def test_a_lock_holds_until_the_moment_it_ends() -> None:
    ends = START + 2 * HOUR
    assert answer(locked(1, 2), now=ends - _TICK).status is GateStatus.UNSATISFIED
    assert answer(locked(1, 2), now=ends).status is GateStatus.SATISFIED


def test_several_locks_all_hold_and_time_alone_opens_them_when_all_end() -> None:
    assert answer(locked(1, 2), locked(2, 3)).earliest == START + 3 * HOUR
    endless = answer(locked(1, 2), locked(2))
    assert endless.earliest is None
    assert endless.unblock == f"ReleaseLock {uid(1)}, {uid(2)}."
    many = answer(*(locked(number) for number in range(1, 9)))
    assert many.unblock.endswith(f"{uid(5)}; and 3 more.")
    assert "incident 6" not in many.why


@pytest.mark.parametrize("kind", DeploymentKind)
@pytest.mark.parametrize("rollbacks", [True, False])
def test_only_rollbacks_pass_and_not_every_lock(kind: DeploymentKind, *, rollbacks: bool) -> None:
    passes = kind is DeploymentKind.ROLLBACK and not rollbacks
    expected = GateStatus.NOT_APPLICABLE if passes else GateStatus.UNSATISFIED
    assert answer(locked(rollbacks=rollbacks), kind=kind).status is expected


def test_an_overridden_lock_still_says_why() -> None:
    found = answer(locked(), overridden=True)
    assert (found.status, "incident 1" in found.why) == (GateStatus.OVERRIDDEN, True)
    assert answer(overridden=True).status is GateStatus.SATISFIED


def test_what_is_locked_in_words() -> None:
    assert place("auth", "Prod") == "auth in Prod"
    assert place("auth", None) == "auth everywhere"
    assert place(None, "Prod") == "everything in Prod"
    assert place(None, None) == "everything"


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("everything", [True, False])
def test_everything_is_locked_only_when_that_is_said(*, named: bool, everything: bool) -> None:
    if named is not everything:
        check_new(anything_named=named, everything=everything, expires_at=None, now=START)
        return
    with pytest.raises(ValidationFailed, match="everything"):
        check_new(anything_named=named, everything=everything, expires_at=None, now=START)


@pytest.mark.parametrize(
    ("after", "allowed"),
    [
        (timedelta(0), False),
        (_TICK, True),
        (LONGEST, True),
        (LONGEST + _TICK, False),
    ],
    ids=["now", "soon", "longest", "longer"],
)
def test_how_long_a_lock_lasts(after: timedelta, *, allowed: bool) -> None:
    expires_at = START + after
    if allowed:
        check_new(anything_named=True, everything=False, expires_at=expires_at, now=START)
        return
    with pytest.raises(ValidationFailed, match="expires_at"):
        check_new(anything_named=True, everything=False, expires_at=expires_at, now=START)
