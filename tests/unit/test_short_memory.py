"""A short memory asks once, forgets in time, and keeps no failure."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from shared.identity.short_memory import ShortMemory

KEEP = timedelta(seconds=2)


class World:
    """Answers with how often it was asked, at a time the test moves."""

    def __init__(self, size: int = 10) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)
        self.asked: list[str] = []
        self.fails = False
        self.gate: asyncio.Event | None = None
        self.memory = ShortMemory(self.answer, keep=KEEP, size=size, clock=lambda: self.now)

    async def answer(self, key: str) -> int:
        self.asked.append(key)
        number = len(self.asked)
        if self.gate is not None:
            await self.gate.wait()
        if self.fails:
            raise ConnectionError
        return number


async def test_an_answer_serves_for_two_seconds_from_the_question_on() -> None:
    world = World()
    assert await world.memory.get("a") == 1
    world.now += KEEP - timedelta(microseconds=1)
    assert await world.memory.get("a") == 1
    world.now += timedelta(microseconds=1)
    assert await world.memory.get("a") == 2


async def test_a_clock_that_goes_back_makes_nothing_last_longer() -> None:
    world = World()
    await world.memory.get("a")
    world.now -= timedelta(hours=1)
    assert await world.memory.get("a") == 2


async def test_who_asks_at_the_same_time_shares_one_question() -> None:
    world = World()
    assert set(await asyncio.gather(*(world.memory.get("a") for _ in range(50)))) == {1}


async def test_a_failure_is_told_to_all_who_wait_and_not_kept() -> None:
    world = World()
    world.fails = True
    outcomes = await asyncio.gather(
        *(world.memory.get("a") for _ in range(3)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [ConnectionError] * 3
    world.fails = False
    assert await world.memory.get("a") == 2


async def test_one_who_goes_away_does_not_take_the_answer_from_the_others() -> None:
    world = World()
    world.gate = asyncio.Event()
    first, second = (asyncio.create_task(world.memory.get("a")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    world.gate.set()
    assert await second == 1
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_it_is_bounded_and_forgets_what_was_not_asked_for_longest() -> None:
    world = World(size=2)
    for key in ("a", "b", "a", "c", "a"):
        await world.memory.get(key)
    assert world.asked == ["a", "b", "c"]
    await world.memory.get("b")
    assert world.asked == ["a", "b", "c", "b"]
