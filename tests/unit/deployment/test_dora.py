"""What holds of the figures of DORA for any deployments, and the smallest pieces they are of."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.deployment.rules import dora
from services.deployment.rules.dora import (
    DAY,
    Brought,
    Candidate,
    Delivery,
    Excluded,
    Figure,
    Interval,
    Restored,
)
from services.deployment.rules.lifecycle import OPEN, DeploymentKind, DeploymentStatus

START = datetime(2030, 1, 1, tzinfo=UTC)
SERVICE, PLACE = UUID(int=1), UUID(int=2)
OPEN_WORDS = sorted(map(str, OPEN))


def moments() -> st.SearchStrategy[datetime]:
    return st.integers(0, 1_000).map(lambda hours: START + timedelta(hours=hours))


@st.composite
def deliveries(draw: Any) -> list[Delivery]:
    made = []
    for number in range(draw(st.integers(0, 12))):
        status = draw(st.sampled_from(sorted(DeploymentStatus)))
        ended_at = None if status in OPEN else draw(moments())
        may_complete = status in {"completed", "rolled_back"}
        completed = status == "completed" or (may_complete and draw(st.booleans()))
        failure = None if completed else draw(st.sampled_from([None, "failed", "errored"]))
        reached = completed or ended_at is None or draw(st.booleans())
        touched = draw(moments()) if reached else None
        made.append(
            Delivery(
                id=UUID(int=100 + number),
                service_id=draw(st.sampled_from([UUID(int=1), UUID(int=3)])),
                environment_id=PLACE,
                release_id=UUID(int=9),
                service="auth",
                version="1",
                environment="prod",
                kind=draw(st.sampled_from(sorted(DeploymentKind))),
                status=status,
                touched_at=touched,
                ended_at=ended_at,
                completed_seq=number if completed else None,
                failure_class=failure,
                rolled_back_by=UUID(int=7) if status == "rolled_back" else None,
            )
        )
    return made


def counted(figure: Figure) -> list[UUID]:
    return sorted(one.delivery.id for one in figure.counted)


def left_out(figure: Figure) -> list[tuple[Excluded, UUID]]:
    return sorted((reason, one.id) for reason, some in figure.excluded.items() for one in some)


def figures(some: Iterable[Delivery]) -> list[Figure]:
    """Return the four figures; each counted completion brought something, every other ends one."""
    known = list(some)
    new = Candidate(SERVICE, PLACE, "auth@1", "1", START, None, START, 1)
    brought = {
        (one.service_id, one.environment_id, one.completed_seq): Brought(new, 1)
        for one in known
        if one.completed_seq is not None and one.completed_seq % 2
    }
    frequency = dora.frequency(known)
    marked = {one.id: (UUID(int=5),) for one in known if one.id.int % 3 == 0}
    changes = dora.change_failures(known, marked)
    restored = {
        one.id: Restored(one.id, one.ended_at or START) for one in known if one.id.int % 2 == 0
    }
    return [
        frequency,
        dora.lead_time(frequency, brought),
        changes,
        dora.restoring(changes, restored),
    ]


@given(deliveries())
def test_each_deployment_is_counted_or_left_out_once(some: list[Delivery]) -> None:
    everything = sorted(one.id for one in some)
    for figure in figures(some)[:3]:
        assert sorted([*counted(figure), *(found for _, found in left_out(figure))]) == everything


@given(deliveries())
def test_numerators_are_parts_of_their_denominators(some: list[Delivery]) -> None:
    frequency, lead_time, changes, restoring = figures(some)
    assert set(counted(lead_time)) <= set(counted(frequency))
    failed = [one.delivery.id for one in changes.failed]
    assert set(failed) <= set(counted(changes))
    assert counted(restoring) == sorted(failed)
    assert len(restoring.durations) <= len(failed)


@given(deliveries())
def test_disjoint_parts_add_up(some: list[Delivery]) -> None:
    parts = [
        figures(one for one in some if one.service_id == service)
        for service in (UUID(int=1), UUID(int=3))
    ]
    for whole, *each in zip(figures(some), *parts, strict=True):
        assert counted(whole) == sorted(found for figure in each for found in counted(figure))
        assert left_out(whole) == sorted(found for figure in each for found in left_out(figure))


@given(deliveries())
def test_no_remedy_and_no_fault_of_the_machinery_is_a_failed_change(some: list[Delivery]) -> None:
    for one in dora.change_failures(some, {}).failed:
        assert one.delivery.kind in {"deploy", "promote"}
        assert one.delivery.failure_class != "errored"
        assert one.delivery.status not in OPEN_WORDS


def candidates() -> st.SearchStrategy[list[Candidate]]:
    """Releases of one pair; those with a number have completed there, in that order."""
    facts = st.tuples(st.sampled_from("abcd"), moments(), st.booleans())
    return st.tuples(st.lists(facts, max_size=8), st.randoms()).map(_candidates)


def _candidates(drawn: tuple[list[tuple[str, datetime, bool]], Any]) -> list[Candidate]:
    facts, random = drawn
    numbers = random.sample(range(1, 20), len(facts))
    return [
        Candidate(SERVICE, PLACE, f"r{n}", key, at, None, at, numbers[n] if completes else None)
        for n, (key, at, completes) in enumerate(facts)
    ]


def carries(carrier: Candidate, one: Candidate) -> bool:
    return one.version_key <= carrier.version_key and one.published_at <= carrier.published_at


@given(candidates())
def test_a_release_arrives_once_with_the_first_that_carries_it(known: list[Candidate]) -> None:
    expected: dict[int, list[Candidate]] = {}
    for one in known:
        numbers = [
            carrier.first_seq
            for carrier in known
            if carrier.first_seq is not None and carries(carrier, one)
        ]
        if numbers:
            expected.setdefault(min(numbers), []).append(one)
    found = dora.arrivals(known)
    assert {seq: brought.releases for (_, _, seq), brought in found.items()} == {
        seq: len(some) for seq, some in expected.items()
    }
    for (_, _, seq), brought in found.items():
        assert brought.earliest.committed_at == min(one.committed_at for one in expected[seq])


@given(st.lists(st.integers(0, 50), min_size=1), st.sampled_from([50, 90]))
def test_the_nearest_rank_is_the_smallest_that_enough_do_not_exceed(
    hours: list[int], hundredths: int
) -> None:
    values = sorted(timedelta(hours=hour) for hour in hours)
    found = dora.nearest_rank(values, hundredths)
    enough = [
        value
        for value in values
        if sum(other <= value for other in values) * 100 >= hundredths * len(values)
    ]
    assert found == min(enough)


def test_no_data_is_not_zero() -> None:
    assert dora.nearest_rank([], 50) is None
    assert dora.rate(0, 0) is None
    assert dora.rate(0, 3) == 0
    assert dora.per(DAY, 0, 30 * DAY, seen=False) is None
    assert dora.per(DAY, 0, 30 * DAY, seen=True) == 0
    assert dora.per(7 * DAY, 15, 30 * DAY, seen=True) == pytest.approx(3.5)


@pytest.mark.parametrize(
    ("start", "end", "days"),
    [(0, 24, 1), (0, 25, 2), (23, 25, 2), (12, 24, 1), (0, 24 * 30, 30)],
)
def test_days_are_those_of_utc(start: int, end: int, days: int) -> None:
    interval = Interval(START + timedelta(hours=start), START + timedelta(hours=end))
    assert interval.days == days
