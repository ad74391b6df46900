"""Entries of the audit service itself, when the answer to the commit that stored them is lost."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from services.audit.appending import refusals as refusals_module
from services.audit.appending import traces as traces_module
from services.audit.appending.ledger import Ledger, Logged, Own, Refused
from services.audit.appending.refusals import Refusals
from services.audit.appending.traces import Traces
from services.audit.rules.events import HORIZON
from services.audit.store.people import People
from shared.clock import system_clock
from shared.errors import RoleRequired
from shared.identity.actor import Actor, Call, Role, current_call
from tests.integration.audit.conftest import SECRET, World
from tests.support.polling import eventually


class Unheard(Ledger):
    """A ledger that appends, and of whose first answers nobody hears."""

    def __init__(self, world: World, unheard: int) -> None:
        super().__init__(world.queue, People(world.writer), secret=SECRET, clock=system_clock)
        self.left = unheard

    async def record(self, own: Sequence[Own]) -> list[Logged | Refused]:
        outcomes = await super().record(own)
        if self.left:
            self.left -= 1
            raise ConnectionError
        return outcomes


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces_module, "AGAIN_S", 0.01)
    monkeypatch.setattr(refusals_module, "AGAIN_S", 0.01)


def call_of(world: World) -> Call:
    reader = Actor(world.user_id, "somebody", Role.LEAD)
    return Call("/test", "request", "198.51.100.1", "test agent", reader)


async def test_the_end_of_a_stream_is_told_once(world: World) -> None:
    ledger = Unheard(world, 0)
    traces = Traces(ledger, system_clock)
    known = current_call.set(call_of(world))
    async with traces.session("follow", {}):
        ledger.left = 3
    await traces.close()
    current_call.reset(known)
    assert ledger.left == 0
    assert [row["action"] for row in await world.rows()] == ["follow", "follow_done"]


async def test_the_beginning_that_nobody_waits_for_is_told_once(world: World) -> None:
    ledger = Unheard(world, 3)
    traces = Traces(ledger, system_clock)
    known = current_call.set(call_of(world))
    async with traces.session("verify", {}, needed=False):
        await eventually(lambda: asyncio.sleep(0, ledger.left == 0))
    await traces.close()
    current_call.reset(known)
    assert sorted(row["action"] for row in await world.rows()) == ["verify", "verify_done"]


async def counted(world: World) -> dict[str, int]:
    """Return how many denied calls the ledger tells of, by the id of the request."""
    rows = await world.owner.fetch(
        "SELECT details ->> 'request_id' AS request, sum((details ->> 'count')::int)::int AS count"
        " FROM audit_logs WHERE action = 'call_denied' GROUP BY 1"
    )
    return {row["request"]: row["count"] for row in rows}


@pytest.mark.parametrize("ending", [False, True])
async def test_denied_calls_are_counted_once_and_what_comes_meanwhile_too(
    world: World,
    ending: bool,  # noqa: FBT001
) -> None:
    """Also those whose commit came to nobody's ears when the service was about to end."""
    ledger = Unheard(world, 2)
    refusals = Refusals(system_clock)
    error = RoleRequired(required="lead", role="viewer")
    await refusals.denied(call_of(world), error)
    refusals.start(ledger.record)
    if not ending:
        await eventually(lambda: asyncio.sleep(0, ledger.left < 2))
        later = replace(call_of(world), method="/other", request_id="later")
        await refusals.denied(later, error)
        await eventually(lambda: asyncio.sleep(0, ledger.left == 0))
    await refusals.stop()
    assert ledger.left == 0
    assert await counted(world) == {"request": 1} | ({} if ending else {"later": 1})


async def test_an_entry_whose_id_is_too_old_is_given_up_and_those_after_it_are_written(
    world: World,
) -> None:
    """As after an outage of the database, or of a clock, that was longer than ids are accepted."""
    ledger, moments = Unheard(world, 0), [system_clock()]
    ledger._clock = lambda: moments[-1]  # noqa: SLF001
    refusals = Refusals(system_clock)
    error = RoleRequired(required="lead", role="viewer")
    moments.append(moments[0] + HORIZON + timedelta(days=1))
    await refusals.denied(call_of(world), error)
    with capture_logs() as logs:
        refusals.start(ledger.record)
        lost = {"audit_refusal_lost"}
        await eventually(lambda: asyncio.sleep(0, lost <= {entry["event"] for entry in logs}))
        moments.append(moments[0])
        await refusals.denied(replace(call_of(world), method="/other", request_id="later"), error)
        await eventually(lambda: counted(world))
    await refusals.stop()
    assert await counted(world) == {"later": 1}
    told = [entry for entry in logs if entry["event"] == "audit_refusal_lost"]
    assert [entry["problem"] for entry in told] == ["EVENT_TOO_OLD"]
