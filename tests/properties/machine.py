"""A machine of Hypothesis whose steps are bundles of calls that people send at once.

What is drawn are numbers alone. What they choose from depends on what came before, and so on who
came first; that is why a failure is told with all its steps and not looked for again in shorter
ones.
"""

import asyncio
import itertools
from collections import Counter
from collections.abc import Coroutine, Sequence
from random import Random
from typing import Any, ClassVar, Final, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.properties.actors import Actors
from tests.properties.court import Court
from tests.properties.executors import EXECUTING, Act
from tests.properties.verdict import drained, judged, judged_now

Result = TypeVar("Result")
# A bundle is drawn as the seed of its choices: there is nothing to be made smaller in it.
SEED: Final = st.integers(1, 2**48)
COPIES: Final = (1, 1, 1, 2, 4)
# For all that one step does, of which letting everything come to its end is the longest.
PATIENCE_S: Final = 180
PROD_VOTES: Final = tuple(Act("approve", who, 0, 1) for who in (2, 3, 4))
_numbers = itertools.count(1)


def acts(seed: int, *names: str, most: int = 5) -> list[Act]:
    """Return a bundle of acts of these names."""
    chance = Random(seed)
    return [
        Act(chance.choice(names), *chance.choices(range(48), k=4))._replace(
            copies=chance.choice(COPIES)
        )
        for _ in range(chance.randint(2, most))
    ]


class Crowd(RuleBasedStateMachine):
    """People and programs who request, decide, drive, undo, restrict and repeat at once."""

    court: ClassVar[Court]
    loop: ClassVar[asyncio.AbstractEventLoop]
    total: ClassVar[Counter[str]]

    def __init__(self) -> None:
        """Begin with two services that nobody has deployed yet."""
        super().__init__()
        number = next(_numbers)
        self.actors = Actors(self.court, [f"crowd{number}a", f"crowd{number}b"])
        self._do(self.actors.begin())

    @initialize(seed=SEED)
    def begin(self, seed: int) -> None:
        """Let there be something that ran in Prod, and something to decide about."""
        self._happen([Act("request", 0, release, 2, 7) for release in (1, 6)])
        self._happen([*PROD_VOTES, *(Act("approve", who, 1, 1) for who in (2, 3, 4))])
        self._happen([Act("start", who, one, 1) for who in (0, 1) for one in (0, 1)])
        self._happen([Act("request", 0, 2, 2, 7), *acts(seed, "request", most=6)])

    @rule(seed=SEED)
    def ask(self, seed: int) -> None:
        """Request some deployments at once."""
        self._happen(acts(seed, "request"))

    @rule(seed=SEED)
    def decide(self, seed: int) -> None:
        """Approve for Prod, decide, start, and change who may."""
        others = acts(seed, "approve", "start", "reject", "demote", "override", "publish")
        self._happen([*PROD_VOTES, Act("start", 0, 0, 1), *others])

    @rule(seed=SEED)
    def drive(self, seed: int) -> None:
        """Start and end things."""
        self._happen([*acts(seed, "start", "finish", "approve"), Act("start"), Act("finish")])

    @rule(seed=SEED)
    def execute(self, seed: int) -> None:
        """Claim, drive, give back, intervene and stop what is claimed."""
        self._happen(acts(seed, "claim", "claim", "start", "finish", most=4))
        self._happen(acts(seed + 1, *EXECUTING, "finish", "cancel", "roll_back", most=6))

    @rule(seed=SEED)
    def stop(self, seed: int) -> None:
        """Stop what an executor drives, while others start, end or take it."""
        self._happen([Act("claim", seed, two=1), *acts(seed, "start", "start", "approve")])
        self._happen([Act("stop", seed), *acts(seed + 1, "stop", "finish", "give_back", most=3)])
        self._happen([Act("confirm", copies=2), *acts(seed + 2, "stop", "claim", "start", most=3)])

    @rule(seed=SEED)
    def undo(self, seed: int) -> None:
        """Roll back while others end, stop and start the same."""
        self._happen(acts(seed, "roll_back", "roll_back", "finish", "cancel", "start", "clear"))

    @rule(seed=SEED)
    def restrict(self, seed: int) -> None:
        """Lock, freeze and let go while things start."""
        shut = acts(seed, "lock", "freeze", "unlock", "thaw", "publish", "mark", "start", most=4)
        self._happen([*shut, Act("start", 2), Act("start", 3, 1, 1)])

    @rule(seed=SEED)
    def let_go(self, seed: int) -> None:
        """Open what is shut, so that things go on, and back."""
        self._happen([Act("unlock"), Act("thaw"), Act("clear", 2)])
        self._happen([*acts(seed, "request", "start"), *PROD_VOTES])
        self._happen([Act("start", 0, 0, 1), Act("start", 1), Act("finish", 1)])
        self._happen(acts(seed, "roll_back", "roll_back", "finish"))

    @rule(seed=SEED)
    def repeat(self, seed: int) -> None:
        """Send old requests once more, among new ones."""
        self._happen(acts(seed, "again", "again", "request", "roll_back"))

    def teardown(self) -> None:
        """Judge all of it, let everything come to its end, and judge that as well."""
        wrong = self._do(judged(self.actors))
        never = self._do(drained(self.actors))
        wrong += never + self._do(judged(self.actors))
        self.total.update(self.actors.done)
        self.total.update(f"step {what}" for what in self._do(self._steps()))
        assert not wrong, wrong
        assert not self.court.world.errors, self.court.world.errors

    def _happen(self, bundle: Sequence[Act]) -> None:
        self._do(self.actors.all_at_once(bundle))
        wrong = self._do(judged_now(self.actors))
        assert not wrong, wrong

    async def _steps(self) -> list[str]:
        """Return what happened where, for the count that shows that something did."""
        rows = await self.court.owner.fetch(
            "SELECT facts -> 'environment' ->> 'name' AS place, facts -> 'after' ->> 'kind' AS kind"
            " FROM witnessed WHERE service_id = ANY ($1)",
            self.actors.services,
        )
        return [f"{row['kind']} in {row['place']}" for row in rows]

    def _do(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE_S)
