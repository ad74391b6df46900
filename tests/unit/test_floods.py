"""Floods are told in few words, and every single one of them is in the sum."""

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.floods import WINDOW, Floods, Report

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def counts(reports: list[Report[str, int]]) -> list[tuple[str | None, int]]:
    return [(report.key, report.count) for report in reports]


def test_the_first_of_a_kind_is_due_at_once_and_the_rest_after_a_window() -> None:
    floods: Floods[str, int] = Floods()
    floods.note("a", 1, START)
    assert floods.due_at() == START
    assert counts(floods.take(START)) == [("a", 1)]
    for number in range(50):
        floods.note("a", number, START + number * SECOND)
    floods.note("b", 1, START + 50 * SECOND)
    assert counts(floods.take(START + 50 * SECOND)) == [("b", 1)]
    assert floods.due_at() == START + WINDOW
    [report] = floods.take(START + WINDOW)
    assert (report.key, report.count, report.sample) == ("a", 50, 0)
    assert (report.first_at, report.last_at) == (START, START + 49 * SECOND)
    assert floods.due_at() is None


def test_a_kind_that_became_quiet_is_new_again_and_makes_room() -> None:
    floods: Floods[str, int] = Floods(most=1)
    floods.note("a", 1, START)
    assert counts(floods.take(START)) == [("a", 1)]
    floods.note("b", 1, START + SECOND)
    assert counts(floods.take(START + SECOND)) == [(None, 1)]
    floods.note("b", 1, START + 2 * WINDOW)
    assert counts(floods.take(START + 2 * WINDOW)) == [("b", 1)]
    assert len(floods) == 1


def test_a_clock_that_is_put_back_holds_nothing_for_longer_than_a_window() -> None:
    floods: Floods[str, int] = Floods()
    floods.note("a", 1, START)
    floods.take(START)
    floods.note("a", 2, START)
    earlier = START - timedelta(days=1)
    assert counts(floods.take(earlier)) == [("a", 1)]


Step = tuple[str, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["note", "note", "note", "take"]),
        st.integers(0, 40),
        st.integers(-5, 90),
    ),
    max_size=200,
)


@given(steps=STEPS, most=st.integers(1, 8))
def test_sums_are_equal_and_memory_is_bounded(steps: list[Step], most: int) -> None:
    """Whatever the order of things, nothing is lost or doubled."""
    floods: Floods[int, int] = Floods(most=most)
    now, noted, told, reports = START, Counter[int](), 0, 0
    for number, (what, kind, seconds) in enumerate(steps):
        now += seconds * SECOND
        if what == "note":
            noted[kind] += 1
            floods.note(kind, number, now)
        else:
            taken = floods.take(now)
            told += sum(report.count for report in taken)
            reports += len(taken)
            assert len({report.key for report in taken}) == len(taken)
            for report in taken:
                assert report.key is None or report.count <= noted[report.key]
        assert len(floods) <= most + 1
    last = floods.take_all()
    assert told + sum(report.count for report in last) == noted.total()
    assert len(floods) == 0


@settings(deadline=None)  # what a busy machine takes says nothing
@given(kinds=st.integers(1, 400), minutes=st.integers(1, 5))
def test_reports_are_few_whatever_the_flood(kinds: int, minutes: int) -> None:
    floods: Floods[int, int] = Floods(most=10)
    told = reports = 0
    for second in range(0, minutes * 60, 5):
        now = START + second * SECOND
        for kind in range(kinds):
            floods.note(kind, 0, now)
        taken = floods.take(now)
        told, reports = told + sum(report.count for report in taken), reports + len(taken)
    assert reports <= 11 * minutes
    assert told + sum(report.count for report in floods.take_all()) == kinds * minutes * 12
