"""The streams of those who watch, and what each has yet to be sent.

A stream holds the newest state of each deployment and no older one, so a reader who does not read
costs at most one entry for each deployment. The states themselves are shared by all streams.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from prometheus_client import Gauge

from services.deployment.store.watched import Choice, Header

WATCHED = Gauge("deployment_watchers", "Streams that watch deployments.")


@dataclass(frozen=True, slots=True)
class State:
    """A deployment in one version, as the message that says so."""

    id: UUID
    version: int
    message: Any


class Stream:
    """What one caller has yet to be sent, the longest waiting deployment first."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._waiting: dict[UUID, State] = {}
        self._floor: dict[UUID, int] = {}
        self._news = asyncio.Event()

    def __len__(self) -> int:
        """Return how many deployments wait."""
        return len(self._waiting)

    def offer(self, state: State) -> None:
        """Take a state, unless one as new is or was here. It keeps the place of the older one."""
        waiting = self._waiting.get(state.id)
        known = self._floor.get(state.id, -1) if waiting is None else waiting.version
        if state.version > known:
            self._waiting[state.id] = state
            self._news.set()

    def begin_with(self, states: Iterable[State], *, may_be_overtaken: bool) -> None:
        """Take states that were read for this stream.

        `may_be_overtaken` says that changes which were read earlier may be offered later; none of
        them may then take a deployment back to where it was.
        """
        for state in states:
            self.offer(state)
            if may_be_overtaken:
                self._floor[state.id] = state.version

    def forget_floor(self) -> None:
        """Note that nothing that was read earlier can come any more."""
        self._floor = {}

    def take(self) -> State:
        """Return what has waited longest; raises KeyError when nothing waits."""
        first = next(iter(self._waiting), None)
        if first is None:
            raise KeyError
        return self._waiting.pop(first)

    async def wait(self, seconds: float) -> None:
        """Return when something waits, or after so many seconds."""
        if self._waiting or seconds <= 0:
            return
        self._news.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._news.wait()
        except TimeoutError:
            return


class Streams:
    """All streams of a process, by what they want: whoever wants the same is asked once."""

    def __init__(self) -> None:
        """Begin with none."""
        self._by_choice: dict[Choice, set[Stream]] = {}

    def __bool__(self) -> bool:
        """Say whether anybody watches."""
        return bool(self._by_choice)

    @contextmanager
    def joined(self, choice: Choice) -> Iterator[Stream]:
        """Provide a stream that gets what matches from now on."""
        stream = Stream()
        self._by_choice.setdefault(choice, set()).add(stream)
        try:
            with WATCHED.track_inprogress():
                yield stream
        finally:
            self._by_choice[choice].discard(stream)
            if not self._by_choice[choice]:
                del self._by_choice[choice]

    def wanted(self, headers: Iterable[Header]) -> list[Header]:
        """Return those that somebody watches."""
        return [
            header for header in headers if any(choice.covers(header) for choice in self._by_choice)
        ]

    def publish(self, states: Mapping[UUID, State], headers: Iterable[Header]) -> None:
        """Offer the states of these deployments to all who want them."""
        for header in headers:
            state = states.get(header.id)
            if state is None:
                continue
            for choice, streams in self._by_choice.items():
                if choice.covers(header):
                    for stream in streams:
                        stream.offer(state)

    def forget_floors(self) -> None:
        """Note that every change that was being read has been published."""
        for streams in self._by_choice.values():
            for stream in streams:
                stream.forget_floor()
