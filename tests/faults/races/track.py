"""The track of a race: a barrier, callers, and a tally that shows that they really raced.

`RACE_ROUNDS` says how many rounds each race has, `RACE_SEED` repeats the order of the callers.
"""

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.domain_error import DomainError
from shared.ids import new_id
from tests.properties.actors import POLICIES
from tests.properties.court import Court
from tests.properties.evidence import evidence, unmatched_versions
from tests.properties.lives import judged_lives
from tests.properties.starts import judged_start
from tests.properties.verdict import DEADLOCKS

ROUNDS: Final = int(os.environ.get("RACE_ROUNDS", "0"))
SEED: Final = int(os.environ.get("RACE_SEED", "0")) or Random().randrange(1, 2**32)
SECONDS_A_ROUND: Final = 8
# Rounds of the short run. Where many may come first, a few rounds show two of them; where there
# are two sides, so many do as good as always.
FEW: Final = 5
SOME: Final = 16
# How many outcomes a race has at least. Where one is rare there are more rounds, until it is seen.
OUTCOMES: Final = 2
MOST: Final = 64


@dataclass
class Track:
    """Where rounds of one race are run, each about services of its own."""

    court: Court
    name: str
    chance: Random
    apps: list[str] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)
    first: int = 0

    async def rounds(self, shortened: int, share: int = 1) -> AsyncIterator[str]:
        """Give the service of each round, the same for `share`; tell how to repeat what breaks."""
        await self.court.tidy(POLICIES)
        usual = rounds(shortened)
        for number in range(max(usual, MOST)):
            if number >= usual and len(self.tally) >= OUTCOMES:
                break
            if number % share == 0:
                self.apps.append(f"{self.name}-{new_id().hex}")
            try:
                yield self.apps[-1]
            except Exception:
                print(f"RACE_SEED={SEED}, {self.name}, round {number}")  # noqa: T201
                raise

    async def run(self, calls: Sequence[Awaitable[Any]]) -> list[Any]:
        """Release everybody at once, in any order; return answers and refusals as they stand.

        `first` is then the number of the one who was answered first.
        """
        order = list(range(len(calls)))
        self.chance.shuffle(order)
        gate = asyncio.Barrier(len(calls))

        answered: list[int] = []

        async def caller(number: int) -> Any:
            await gate.wait()
            try:
                return await calls[number]
            except DomainError as error:
                return error
            finally:
                answered.append(number)

        tasks = {number: asyncio.create_task(caller(number)) for number in order}
        await asyncio.gather(*tasks.values())
        self.first = answered[0]
        return [await tasks[number] for number in range(len(calls))]

    async def check(self) -> None:
        """Judge of every round, and that no outcome was the only one.

        A race of which one side always wins has shown nothing.
        """
        court = self.court
        assert await court.at_rest(self._judged) == []
        assert await court.owner.fetchval(DEADLOCKS) == 0
        assert not court.world.errors
        print(f"{self.name}, RACE_SEED={SEED}: {dict(self.tally)}")  # noqa: T201  (what happened)
        assert len(self.tally) >= OUTCOMES, f"RACE_SEED={SEED}: it did not race: {self.tally}"

    async def _judged(self) -> list[str]:
        """Return everything that was wrong in any round."""
        court = self.court
        known = court.world.services
        seen = await evidence(court.owner, [known[app] for app in self.apps if app in known])
        return [
            *judged_lives(seen),
            *(what for facts in seen.starts for what in judged_start(facts)),
            *await unmatched_versions(court.owner),
        ]


def rounds(shortened: int) -> int:
    """Return how many rounds a race has that has so many in the short run."""
    return max(shortened, ROUNDS) if ROUNDS else shortened


def track(court: Court, name: str) -> Track:
    """Return the track of a race, whose choices depend on its name and the seed."""
    return Track(court, name, Random(f"{SEED}/{name}"))


def won(results: Sequence[Any]) -> list[Any]:
    """Return what was answered, without the refusals."""
    return [result for result in results if not isinstance(result, DomainError)]


def reasons(results: Sequence[Any]) -> set[str]:
    """Return the reasons of all refusals."""
    return {result.reason for result in results if isinstance(result, DomainError)}


async def requested(court: Court, release: str, place: str, who: str = "dev1") -> pb.Deployment:
    """Request a deployment without stages, whatever is live."""
    return await court.world.create(release, place, who, allow_downgrade=True)
