"""The poller of the ledger's head: it ends with the last who follows, whatever it waits for."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest

from services.audit.reading import head_watch

pytestmark = pytest.mark.asyncio


class Losing(head_watch.HeadWatch):
    """A watch whose look loses the first cancellations, as a connection that is being made does."""

    def __init__(self) -> None:
        nothing: Any = None
        super().__init__(nothing)
        self.looking = asyncio.Event()
        self.left = 2

    async def look(self) -> head_watch.Seen:
        while self.left:
            self.looking.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
            self.left -= 1
        return head_watch.Seen(0, None)


async def test_a_poller_that_loses_its_cancellation_ends_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(head_watch, "ENDING_S", 0.01)
    watch = Losing()
    with watch.followed():
        await watch.looking.wait()
        [poller] = [task for task in asyncio.all_tasks() if task.get_name() == "audit head watch"]
    async with asyncio.timeout(20):
        await asyncio.wait({poller})
    assert (watch.left, poller.cancelled()) == (0, True)
    await watch.close()
