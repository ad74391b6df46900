"""Soak, dependency and start times: what each says, and that its advice is true."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.deployment.rules.gates import Gate, GateAnswer, GateFacts, GateStatus, evaluate
from services.deployment.rules.gates.readiness import in_words
from services.deployment.rules.lifecycle import DeploymentKind
from services.deployment.rules.moments import at_second
from services.deployment.rules.policy import EnvironmentType, default_policy
from services.deployment.rules.promotion import Need, Predecessor
from services.deployment.rules.start_times import LONGEST_WAIT, check_start_times
from shared.errors import ValidationFailed
from shared.identity.actor import Role
from tests.unit.deployment.facts import HOUR, START, asked, person
from tests.unit.deployment.test_gates import READY

MINUTE = timedelta(minutes=1)
INSTANT = timedelta(microseconds=1)
SOAK = default_policy(EnvironmentType.PROD).soak
KINDS = list(DeploymentKind)


def answer(gate: Gate, facts: GateFacts, now: datetime = START) -> GateAnswer:
    """Return what one gate says."""
    return next(said for said in evaluate(facts, now) if said.gate is gate)


def lived(*since: datetime | None) -> GateFacts:
    """Return a deployment to prod of what has been live since these moments in places before."""
    places = tuple(
        Predecessor(f"place{number}", completed=True, live_since=moment)
        for number, moment in enumerate(since, start=1)
    )
    return replace(READY, predecessors=places)


def test_soak_is_over_at_its_last_instant() -> None:
    facts = lived(START - HOUR, START)
    early = answer(Gate.SOAK, facts, START + SOAK - INSTANT)
    assert early.status is GateStatus.UNSATISFIED
    assert early.why == "v2 has lived in place2 for less than 30 minutes"
    assert early.earliest == START + SOAK
    assert early.unblock == "Wait until 2030-01-01 00:30:00 UTC."
    assert answer(Gate.SOAK, facts, early.earliest).status is GateStatus.SATISFIED


def test_to_have_lived_once_is_enough() -> None:
    gone = lived(None)
    for span, status in (
        (SOAK - INSTANT, GateStatus.UNSATISFIED),
        (SOAK, GateStatus.SATISFIED),
    ):
        place = replace(gone.predecessors[0], lived=span)
        assert answer(Gate.SOAK, replace(gone, predecessors=(place,))).status is status


@given(st.lists(st.none() | st.integers(-120, 60), min_size=1, max_size=4))
def test_soak_asks_every_place_and_names_the_last_to_be_ready(ages: list[int | None]) -> None:
    facts = lived(*(None if age is None else START + age * MINUTE for age in ages))
    said = answer(Gate.SOAK, facts)
    ready = [None if age is None else START + age * MINUTE + SOAK for age in ages]
    if None in ready:
        assert (said.status, said.earliest) == (GateStatus.UNSATISFIED, None)
        assert "is not live in" in said.why
        return
    last = max(moment for moment in ready if moment is not None)
    if last <= START:
        assert said.status is GateStatus.SATISFIED
        return
    assert (said.status, said.earliest) == (GateStatus.UNSATISFIED, last)
    assert answer(Gate.SOAK, facts, last).status is GateStatus.SATISFIED


@pytest.mark.parametrize(
    ("kind", "soak", "places"), list(product(KINDS, (True, False), (True, False)))
)
def test_soak_concerns_only_who_has_to_have_lived(
    kind: DeploymentKind, *, soak: bool, places: bool
) -> None:
    environment = EnvironmentType.PROD if soak else EnvironmentType.STAGING
    approval = asked(environment, [person(1, Role.LEAD)])
    facts = replace(lived(*([None] if places else [])), kind=kind, approval=approval)
    concerned = soak and places and kind is not DeploymentKind.ROLLBACK
    expected = GateStatus.UNSATISFIED if concerned else GateStatus.NOT_APPLICABLE
    assert answer(Gate.SOAK, facts).status is expected


def test_dependency_names_what_is_live_and_what_is_needed() -> None:
    needs = (
        Need("ledger", "2.0", "1.9.3", met=False),
        Need("mailer", "", "", met=False),
        Need("users", "1.0", "1.0.0", met=True),
    )
    said = answer(Gate.DEPENDENCY, replace(READY, needs=needs))
    assert said.status is GateStatus.UNSATISFIED
    assert said.why == (
        "ledger 1.9.3 is live, 2.0 or later is needed; no mailer is live, any version is needed"
    )
    wanted = "ledger 2.0 or later, mailer any version"
    assert said.unblock == f"Complete a deployment to prod of {wanted}, with PromoteRelease."
    met = tuple(replace(need, met=True, live=need.live or "1") for need in needs)
    assert answer(Gate.DEPENDENCY, replace(READY, needs=met)).status is GateStatus.SATISFIED


@pytest.mark.parametrize("kind", KINDS)
def test_dependency_lets_rollbacks_and_the_independent_pass(kind: DeploymentKind) -> None:
    assert answer(Gate.DEPENDENCY, READY).status is GateStatus.NOT_APPLICABLE
    facts = replace(READY, kind=kind, needs=(Need("ledger", "2", "", met=False),))
    exempt = kind is DeploymentKind.ROLLBACK
    expected = GateStatus.NOT_APPLICABLE if exempt else GateStatus.UNSATISFIED
    assert answer(Gate.DEPENDENCY, facts).status is expected


def test_a_deployment_starts_in_its_time() -> None:
    facts = replace(READY, not_before=START, start_by=START + HOUR)
    early = answer(Gate.NOT_BEFORE, facts, START - INSTANT)
    assert (early.status, early.earliest) == (GateStatus.UNSATISFIED, START)
    assert "2030-01-01 00:00:00 UTC" in early.unblock
    for moment in (START, START + HOUR - INSTANT):
        assert answer(Gate.NOT_BEFORE, facts, moment).status is GateStatus.SATISFIED
    late = answer(Gate.NOT_BEFORE, facts, START + HOUR)
    assert (late.status, late.earliest) == (GateStatus.UNSATISFIED, None)
    assert late.why == "it had to start by 2030-01-01 01:00:00 UTC"


def test_without_times_any_time_will_do() -> None:
    assert answer(Gate.NOT_BEFORE, READY).status is GateStatus.NOT_APPLICABLE
    ends = replace(READY, start_by=START + HOUR)
    assert answer(Gate.NOT_BEFORE, ends).status is GateStatus.NOT_APPLICABLE
    assert answer(Gate.NOT_BEFORE, ends, START + HOUR).status is GateStatus.UNSATISFIED


@pytest.mark.parametrize(
    ("not_before", "start_by", "wrong"),
    [
        (None, None, []),
        (-HOUR, None, []),
        (None, INSTANT, []),
        (LONGEST_WAIT - INSTANT, LONGEST_WAIT, []),
        (-2 * HOUR, -HOUR, ["start_by"]),
        (None, timedelta(), ["start_by"]),
        (HOUR, HOUR, ["start_by"]),
        (2 * HOUR, HOUR, ["start_by"]),
        (LONGEST_WAIT + INSTANT, None, ["not_before"]),
        (None, LONGEST_WAIT + INSTANT, ["start_by"]),
        (3 * LONGEST_WAIT, 2 * LONGEST_WAIT, ["not_before", "start_by", "start_by"]),
    ],
    ids=str,
)
def test_times_that_leave_no_time_are_refused(
    not_before: timedelta | None, start_by: timedelta | None, wrong: list[str]
) -> None:
    begin = None if not_before is None else START + not_before
    end = None if start_by is None else START + start_by
    if not wrong:
        check_start_times(begin, end, START)
        return
    with pytest.raises(ValidationFailed) as refused:
        check_start_times(begin, end, START)
    assert [violation.field for violation in refused.value.fields] == wrong


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (86_400, "1 day"),
        (2 * 86_400, "2 days"),
        (90 * 60, "90 minutes"),
        (3_600, "1 hour"),
        (61, "61 seconds"),
        (0.5, "0.5 seconds"),
    ],
)
def test_spans_are_told_exactly(seconds: float, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words


@given(st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  (hypothesis adds the zone)
def test_a_time_that_is_told_has_come_by_then(moment: datetime) -> None:
    told = datetime.strptime(at_second(moment), "%Y-%m-%d %H:%M:%S UTC").replace(tzinfo=UTC)
    assert timedelta() <= told - moment < timedelta(seconds=1)


def test_the_ends_of_time_can_be_told() -> None:
    assert at_second(datetime.max.replace(tzinfo=UTC)) == "9999-12-31 23:59:59 UTC"
    assert at_second(datetime.min.replace(tzinfo=UTC)).endswith("01-01 00:00:00 UTC")
