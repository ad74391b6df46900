"""Rollbacks in the product are those of a second telling of the rules, on any history.

`ROLLBACK_HISTORIES` says how many, `ROLLBACK_SEED` repeats a run.
"""

import asyncio
import os
from collections import Counter
from random import Random

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb

from shared.domain_error import DomainError
from tests.properties.court import Court
from tests.properties.rollbacks import Twin
from tests.support.rollback_model import Pair
from tests.unit.deployment.histories import (
    LONG,
    RELEASES,
    Event,
    Start,
    random_history,
    requests,
)

HISTORIES = int(os.environ.get("ROLLBACK_HISTORIES", "10"))
SEED = int(os.environ.get("ROLLBACK_SEED", "0")) or Random().randrange(1, 2**32)
MANY = 100
AT_ONCE = 3
# What a long run shows at least once in so many histories.
SHOWN = {
    **dict.fromkeys(("STALE_ROLLBACK", "NOTHING_DEPLOYED", "NO_STABLE_RELEASE"), 5),
    **dict.fromkeys(("GATE_UNSATISFIED", "NOT_PERMITTED", "planned"), 5),
    **dict.fromkeys(("SLOT_TAKEN", "ROLLBACK_EXISTS", "ROLLBACK_BLOCKED", "marks bad"), 25),
    **dict.fromkeys(("stops", "rolled back"), 25),
    "supersedes": 60,
}
pytestmark = [
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.timeout(120 + 10 * HISTORIES),
]


async def happened(court: Court, app: str, start: Start, events: list[Event]) -> Twin:
    """Return a pair to which all of that has happened, in the model and in the product."""
    twin = Twin(court, app, start, Pair(start.irreversible, start.stable_after))
    await twin.begin()
    for event in events:
        await twin.step(event)
        stored, told = await twin.statuses()
        assert stored == told, event
        assert await twin.marked() == twin.pair.bad, event
    await twin.age(LONG)
    return twin


async def differences(twin: Twin, seen: Counter[str]) -> list[str]:
    """Ask both everything; return what they answer differently."""
    found = []
    for number, named, preempt, lead in requests(twin.pair):
        told = twin.by_model(number, named, preempt=preempt, lead=lead)
        got = await twin.by_product(number, named, preempt=preempt, lead=lead)
        seen[got.reason or "planned"] += 1
        seen["marks bad"] += got.marks_bad
        seen["supersedes"] += bool(got.supersedes)
        seen["stops"] += got.stops >= 0
        if told != got:
            found.append(f"{number} {named} {preempt} {lead}: {got}, not {told}")
    return found


async def walked_back(twin: Twin, seen: Counter[str]) -> list[str]:
    """Roll back, several at once, until no rollback is possible; return what was gone back to."""
    world, picked = twin.court.world, list[str]()
    while (subject := twin.pair.subject()) is not None:
        answer = twin.pair.rollback(subject, preempt=True)
        request = pb.ExecuteRollbackRequest(
            deployment=twin.ids[subject.number], reason="it broke", preempt=True
        )

        async def asked(request: pb.ExecuteRollbackRequest = request) -> object:
            try:
                return await world.call("dev1", "ExecuteRollback", request)
            except DomainError as error:
                return error

        results = await asyncio.gather(*(asked() for _ in range(AT_ONCE)))
        made = [one for one in results if isinstance(one, pb.ExecuteRollbackResponse)]
        if answer.reason:
            assert {one.reason for one in results if isinstance(one, DomainError)} == {
                answer.reason
            }
            assert not made
            return [*picked, answer.reason]
        assert len(made) == 1, results
        target = twin.pair.attempts[answer.target].release
        assert made[0].deployment.release == f"{twin.app}@{target}"
        carrier = twin.pair.start_rollback(subject, answer)
        twin.ids.append(made[0].deployment.id)
        await world.run_stages(made[0].deployment.id, "deploy", "smoke_test")
        twin.pair.complete(carrier)
        await twin.age(LONG)
        stored, told = await twin.statuses()
        assert stored == told
        picked.append(target)
        seen["rolled back"] += 1
    return picked


async def test_product_and_model_agree_on_random_histories(court: Court) -> None:
    chance, seen, left_out = Random(SEED), Counter[str](), 0
    print(f"ROLLBACK_SEED={SEED} ROLLBACK_HISTORIES={HISTORIES}")  # noqa: T201  (to repeat it)
    for number in range(HISTORIES):
        start, events = random_history(chance)
        try:
            twin = await happened(court, f"twin{number}", start, events)
            found = await differences(twin, seen)
            assert not found, found
            waiting = [each for each in twin.pair.attempts if each.status == "paused"]
            picked = [] if waiting else await walked_back(twin, seen)
        except Exception:
            print(f"history {number}: {start} {events}")  # noqa: T201  (to repeat it)
            raise
        gone_to = picked[:-1]
        assert len(set(gone_to)) == len(gone_to), picked
        left_out += twin.left_out
    print(dict(seen), f"left out: {left_out}")  # noqa: T201  (what happened)
    assert seen["planned"]
    if HISTORIES >= MANY:
        least = {what: HISTORIES // every for what, every in SHOWN.items()}
        assert {what: seen[what] for what in least if seen[what] < least[what]} == {}
    await court.delivered()


async def test_the_model_would_notice_a_rollback_to_what_is_marked_bad() -> None:
    """The control: a target that the product may not choose is not what the model answers."""
    pair = Pair()
    for release in RELEASES[:3]:
        pair.complete(pair.deploy(release))
    subject = pair.subject()
    assert subject is not None
    assert pair.attempts[pair.rollback(subject).target].release == "v1"
    pair.bad.add("v1")
    assert pair.attempts[pair.rollback(subject).target].release == "v0"
