"""Whatever is done at once and in whatever order, nobody waits for one another in a circle."""

import pytest

from tests.faults.races.track import FEW, SECONDS_A_ROUND, rounds, track
from tests.properties.actors import Actors
from tests.properties.court import Court
from tests.properties.executors import EXECUTING, Act
from tests.properties.verdict import DEADLOCKS, judged

AT_ONCE = 16
WHAT = (
    *("request", "approve", "start", "finish", "roll_back", "cancel", "reject", "again"),
    *("lock", "unlock", "freeze", "thaw", "override", "publish", "demote", "mark", "clear"),
    *EXECUTING,
)
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(120 + SECONDS_A_ROUND * rounds(FEW)),
]


async def test_all_orders_of_all_changes_meet_no_deadlock(court: Court) -> None:
    race = track(court, "circles")
    actors = Actors(court, [f"{race.name}-a", f"{race.name}-b"])
    await actors.begin()
    await actors.all_at_once([Act("request", 0, n, n, 1) for n in range(6)])
    for _ in range(rounds(FEW * 4)):
        chosen = race.chance.choices(WHAT, k=AT_ONCE)
        numbers = [[race.chance.randrange(48) for _ in range(4)] for _ in chosen]
        await actors.all_at_once(
            [Act(what, *four) for what, four in zip(chosen, numbers, strict=True)]
        )
        await actors.all_at_once([Act("unlock"), Act("thaw"), Act("start", 1), Act("finish", 2)])
    assert await judged(actors) == []
    assert await court.owner.fetchval(DEADLOCKS) == 0
    done = {told.split()[0] for told in actors.done if told.endswith(" done")}
    print(f"circles: {dict(actors.done)}")  # noqa: T201  (what happened)
    assert len(done) >= 8, actors.done
