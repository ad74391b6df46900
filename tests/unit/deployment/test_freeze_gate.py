"""The gate of freeze windows: what it says of them, and when it has nothing to say."""

from dataclasses import replace

import pytest

from services.deployment.rules.freeze_times import OneOff
from services.deployment.rules.freezes import Window, concerns_environment, concerns_service
from services.deployment.rules.gates import (
    Gate,
    GateAnswer,
    GateFacts,
    GateStatus,
    earliest_start,
    evaluate,
)
from services.deployment.rules.lifecycle import DeploymentKind
from services.deployment.rules.policy import EnvironmentType
from services.deployment.rules.promotion import ReleaseFacts
from services.deployment.rules.releases import ReleaseStatus
from tests.unit.deployment.facts import HOUR, START, asked, uid
from tests.unit.deployment.freeze_reference import SUBJECT, allow, window

OTHER = uid(77)


def open_until(hours: float) -> OneOff:
    """Return a schedule that has been open for an hour at START."""
    return OneOff(START - HOUR, START + hours * HOUR)


def answer(
    *windows: Window,
    kind: DeploymentKind = DeploymentKind.DEPLOY,
    overridden: bool = False,
) -> GateAnswer:
    """Return what the gate says at START of a deployment under these windows."""
    facts = GateFacts(
        service="auth",
        environment="prod",
        kind=kind,
        release=ReleaseFacts(uid(9), "v1", ReleaseStatus.PUBLISHED, "v1", START),
        approval=asked(EnvironmentType.DEV, ()),
        windows=windows,
        subject=replace(SUBJECT, kind=kind),
        overridden=frozenset({Gate.FREEZE} if overridden else ()),
    )
    (found,) = [one for one in evaluate(facts, START) if one.gate is Gate.FREEZE]
    return found


def test_it_says_which_window_until_when_and_why() -> None:
    found = answer(window(open_until(2)))
    until = START + 2 * HOUR
    assert (found.status, found.earliest) == (GateStatus.UNSATISFIED, until)
    assert found.why == f"quiet forbids it until {until:%Y-%m-%d %H:%M} UTC (people sleep)"
    assert found.unblock == (
        f"Wait until {until:%Y-%m-%d %H:%M:%S} UTC, or let it past the freeze with OverrideGate."
    )
    assert not found.refuses


def test_the_last_of_several_says_when_it_is_over() -> None:
    found = answer(window(open_until(2)), window(open_until(3), name="sale"))
    assert found.earliest == START + 3 * HOUR
    assert "; " in found.why


def test_waiting_is_no_remedy_where_nothing_ever_opens() -> None:
    gone = OneOff(START - 2 * HOUR, START - HOUR)
    found = answer(allow(gone))
    assert (found.status, found.earliest) == (GateStatus.UNSATISFIED, None)
    assert found.unblock == "Let it past the freeze with OverrideGate."


@pytest.mark.parametrize(
    ("windows", "kind", "status"),
    [
        ((), DeploymentKind.DEPLOY, GateStatus.NOT_APPLICABLE),
        ((window(open_until(2), services=frozenset({OTHER})),), DeploymentKind.DEPLOY, None),
        ((window(open_until(2)),), DeploymentKind.ROLLBACK, GateStatus.NOT_APPLICABLE),
        ((window(open_until(2), rollbacks=True),), DeploymentKind.ROLLBACK, GateStatus.UNSATISFIED),
        ((window(open_until(-0.5)),), DeploymentKind.DEPLOY, GateStatus.SATISFIED),
        ((allow(open_until(2)),), DeploymentKind.DEPLOY, GateStatus.SATISFIED),
    ],
    ids=["none", "others", "rollback", "rollback_too", "over", "allowed"],
)
def test_what_forbids_and_what_does_not(
    windows: tuple[Window, ...], kind: DeploymentKind, status: GateStatus | None
) -> None:
    assert answer(*windows, kind=kind).status is (status or GateStatus.NOT_APPLICABLE)


def test_an_override_keeps_the_reason() -> None:
    held, passed = (answer(window(open_until(2)), overridden=over) for over in (False, True))
    assert (passed.status, passed.why) == (GateStatus.OVERRIDDEN, held.why)


def test_a_list_asks_about_one_side_at_a_time() -> None:
    about = window(
        open_until(2),
        teams=frozenset({uid(2)}),
        exempt_services=frozenset({uid(5)}),
        environment_types=frozenset({EnvironmentType.PROD}),
    )
    assert concerns_service(about, uid(1), uid(2))
    assert not concerns_service(about, uid(1), uid(3))
    assert not concerns_service(about, uid(5), uid(2))
    assert concerns_environment(about, OTHER, EnvironmentType.PROD)
    assert not concerns_environment(about, OTHER, EnvironmentType.DEV)


def test_the_earliest_start_minds_what_closes_until_then() -> None:
    night = window(OneOff(START + HOUR, START + 3 * HOUR))
    facts = GateFacts(
        service="auth",
        environment="prod",
        kind=DeploymentKind.DEPLOY,
        release=ReleaseFacts(uid(9), "v1", ReleaseStatus.PUBLISHED, "v1", START),
        approval=asked(EnvironmentType.DEV, ()),
        windows=(night,),
        subject=SUBJECT,
        not_before=START + 2 * HOUR,
    )
    assert earliest_start(facts, START) == START + 3 * HOUR
    for hours, possible in ((3, False), (4, True)):
        found = earliest_start(replace(facts, start_by=START + hours * HOUR), START)
        assert (found is not None) == possible
