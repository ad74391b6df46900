"""How failed log-ins slow down further ones."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.catalog.rules.throttling import (
    FREE_FAILURES,
    LONGEST_DELAY,
    MOST_FAILURES,
    MOST_IN_WINDOW,
    WINDOW,
    Lock,
    Throttle,
    Throttles,
    account_of,
    delay_after,
    source_of,
)
from shared.ids import new_id

START = datetime(2026, 1, 1, tzinfo=UTC)
NOTHING = Throttles(Throttle(), Throttle())


@dataclass
class World:
    """An account under attack: log-ins from several sources, of which the first is known."""

    account: Throttle = Throttle()  # noqa: RUF009  (it is frozen)
    sources: dict[int, Throttle] = field(default_factory=dict)
    compared: list[tuple[datetime, int]] = field(default_factory=list)

    def log_in(self, now: datetime, source: int, *, right: bool = False) -> bool:
        """Try to log in; say whether the password was compared."""
        known = source == 0
        before = Throttles(self.account, self.sources.get(source, Throttle()))
        compared = before.admit(now, known=known)
        if compared:
            self.compared.append((now, source))
            after = before.failed(now, known=known)
            after = after.succeeded(known=known) if right else after
        else:
            after = before.refused()
        self.account, self.sources[source] = after.account, after.source
        return compared


def test_the_delay_doubles_up_to_a_quarter_of_an_hour() -> None:
    seconds = [delay_after(failures).total_seconds() for failures in range(20)]
    assert seconds[:8] == [0, 0, 0, 0, 0, 1, 2, 4]
    assert seconds[14:17] == [512, 900, 900]
    assert delay_after(10**9) == LONGEST_DELAY


def test_after_five_failures_nothing_is_compared_for_a_second() -> None:
    world = World()
    assert [world.log_in(START, 0) for _ in range(7)] == [True] * 5 + [False] * 2
    assert not world.log_in(START + timedelta(seconds=0.9), 0)
    assert world.log_in(START + timedelta(seconds=1), 0)
    assert not world.log_in(START + timedelta(seconds=2.9), 0)
    assert world.account.failures == 6
    assert world.account.refused == 4


def test_a_right_password_ends_the_counting() -> None:
    world = World()
    for _ in range(FREE_FAILURES - 1):
        world.log_in(START, 1)
    assert world.log_in(START, 1, right=True)
    assert (world.account.failures, world.account.lock) == (0, None)
    assert world.sources[1] == Throttle()


def test_a_hundred_failures_stop_strangers_for_good_but_not_the_known_source() -> None:
    world = World()
    now = START
    while world.account.failures < MOST_FAILURES:
        now += WINDOW
        assert world.log_in(now, world.account.failures + 1)
    later = now + timedelta(days=300)
    assert world.account.lock is Lock.STOP
    assert not world.log_in(later, 10_000, right=True)
    assert world.log_in(later, 0, right=True)
    assert not world.log_in(later + WINDOW, 10_001)


def test_a_known_source_is_stopped_by_its_own_failures() -> None:
    world = World()
    now = START
    while world.sources.get(0, Throttle()).failures < MOST_FAILURES:
        now += LONGEST_DELAY
        assert world.log_in(now, 0)
    assert not world.log_in(now + timedelta(days=300), 0)


trials = st.lists(
    st.tuples(st.integers(0, 400), st.integers(0, 6), st.booleans()), min_size=1, max_size=200
)


@settings(max_examples=200)
@given(trials)
def test_no_attack_gets_more_guesses_than_the_rules_allow(
    tried: list[tuple[int, int, bool]],
) -> None:
    world, now, wrong_in_a_row = World(), START, 0
    for seconds, source, right in tried:
        now += timedelta(seconds=seconds)
        by_owner = right and source == 0
        if world.log_in(now, source, right=by_owner):
            wrong_in_a_row = 0 if by_owner else wrong_in_a_row + 1
        if world.account.locked_at is None:
            assert world.account.failures == wrong_in_a_row
    strangers = [moment for moment, source in world.compared if source != 0]
    assert most_in_a_window(strangers) <= MOST_IN_WINDOW


@settings(max_examples=200)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=100))
def test_whoever_sits_at_a_known_place_gets_no_more_guesses_than_strangers(
    pauses: list[int],
) -> None:
    world, now = World(), START
    for seconds in pauses:
        now += timedelta(seconds=seconds)
        world.log_in(now, 0)
    assert most_in_a_window([moment for moment, _ in world.compared]) <= MOST_IN_WINDOW


def most_in_a_window(moments: list[datetime]) -> int:
    """Return how many moments lie in the fullest quarter of an hour."""
    return max(
        (sum(first <= other < first + WINDOW for other in moments) for first in moments), default=0
    )


@given(trials)
def test_strangers_never_keep_the_owner_out_for_longer_than_the_owner_itself_has(
    tried: list[tuple[int, int, bool]],
) -> None:
    world, now = World(), START
    for seconds, source, _ in tried:
        now += timedelta(seconds=seconds)
        world.log_in(now, source + 1)
    assert world.log_in(now, 0, right=True)


@pytest.mark.parametrize(
    ("address", "source"),
    [
        (None, "local"),
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::ffff:1", "2001:db8::/64"),
    ],
)
def test_a_source_is_an_address_or_the_network_of_one(address: str | None, source: str) -> None:
    assert source_of(address) == source


def test_an_account_is_a_user_or_a_name_of_nobody() -> None:
    user = new_id()
    assert account_of(user, "dev1") == account_of(user, "dev1@example.com") == f"user:{user}"
    assert account_of(None, "Nobody") == account_of(None, "nobody")
    assert "nobody" not in account_of(None, "nobody")
