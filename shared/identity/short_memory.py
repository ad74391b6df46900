"""A memory that forgets after a moment: what the database said, at most so many seconds ago."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from shared.clock import Clock

K = TypeVar("K")
V = TypeVar("V")


@dataclass(slots=True)
class _Asked(Generic[V]):
    """A question and when it was asked; the answer may still be on its way."""

    at: datetime
    answer: asyncio.Task[V]


class ShortMemory(Generic[K, V]):
    """Remembers answers for `seconds` from the moment they were asked for, `size` at most.

    Who asks while the same question is on its way waits for that answer. A failure is told to all
    who wait and is not remembered.
    """

    def __init__(
        self, ask: Callable[[K], Awaitable[V]], *, keep: timedelta, size: int, clock: Clock
    ) -> None:
        """Take the question and how long an answer may serve."""
        self._ask = ask
        self._keep = keep
        self._size = size
        self._clock = clock
        self._known: OrderedDict[K, _Asked[V]] = OrderedDict()

    async def get(self, key: K) -> V:
        """Return the answer for `key`, asking when there is none that is fresh enough."""
        now = self._clock()
        asked = self._known.get(key)
        if asked is None or not timedelta() <= now - asked.at < self._keep or _failed(asked.answer):
            asked = _Asked(now, asyncio.ensure_future(self._answer(key)))
            self._known[key] = asked
            if len(self._known) > self._size:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        # Shielded: one caller that goes away must not take the answer from the others.
        return await asyncio.shield(asked.answer)

    async def _answer(self, key: K) -> V:
        return await self._ask(key)


def _failed(answer: asyncio.Task[V]) -> bool:
    return answer.done() and (answer.cancelled() or answer.exception() is not None)
