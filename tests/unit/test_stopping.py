"""How work that may take for ever is ended."""

import asyncio
from contextlib import suppress
from typing import NoReturn

import pytest

from shared.errors import ServerStopping
from shared.outbox import delivery
from shared.rpc import stopping

pytestmark = pytest.mark.asyncio


async def ends() -> NoReturn:
    raise ServerStopping


async def test_work_that_loses_a_cancellation_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that the test takes no two seconds.
    monkeypatch.setattr(stopping, "CANCELLED_AGAIN_S", 0.01)
    told = 0

    async def loses_two() -> None:
        nonlocal told
        for _ in range(2):
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            told += 1
        await asyncio.sleep(60)

    with pytest.raises(ServerStopping):
        async with asyncio.timeout(10):
            await stopping.unless(loses_two(), ends())
    assert told == 2


async def test_a_loop_that_loses_a_cancellation_is_cancelled_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So that the test takes no two seconds.
    monkeypatch.setattr(delivery, "CANCELLED_AGAIN_S", 0.01)
    told = 0

    async def loses_one() -> None:
        nonlocal told
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
        told += 1
        await asyncio.sleep(60)

    async with asyncio.timeout(10), delivery.Loops({"loses one": loses_one}):
        await asyncio.sleep(0.01)
    assert told == 1


async def test_work_that_ends_well_is_what_counts() -> None:
    async def work() -> str:
        return "done"

    assert await stopping.unless(work(), ends()) == "done"
