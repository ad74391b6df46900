"""One call, one change: repeated, rehearsed, refused, abandoned, and raced against itself."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import pytest
from release_manager.catalog.v1 import catalog_pb2 as pb
from release_manager.common.v1 import audit_receipt_pb2 as receipts

from seed.rows import Connection
from services.catalog.messages import teams as messages
from services.catalog.operations import teams
from services.catalog.rules.resources import Team
from shared.db.engine import Database
from shared.db.violations import translate
from shared.errors import NotPermitted, RequestIdReused, ResourceExists
from shared.identity.actor import Call, current_call
from shared.outbox.backlog import OutboxBacklog, OutboxLimits
from shared.outbox.change import Change, Changes
from shared.outbox.relay import Relay
from shared.rpc.interceptors.deadline import Deadline
from tests.integration.outbox.conftest import actor_named, lent, runs
from tests.integration.outbox.ledger_double import Fault, LedgerDouble
from tests.integration.outbox.working import (
    PRODUCER,
    aggregates,
    commit,
    create_team,
    version,
    waiting,
)
from tests.support.polling import eventually

pytestmark = pytest.mark.usefixtures("call")


@pytest.fixture
def patient(db: Database, relay: Relay, backlog: OutboxBacklog) -> Changes:
    """Changes that wait for the ledger for as long as it takes, where its answer is awaited."""
    return Changes(db, relay, PRODUCER, backlog, wait_s=30.0)


async def stored(owner: Connection, name: str) -> tuple[int, int]:
    """Return how many teams of a name there are, and how many events of them."""
    found = await owner.fetchval("SELECT count(*) FROM teams WHERE name = $1", name)
    told = await owner.fetchval(
        "SELECT count(*) FROM outbox WHERE event #>> '{details,after,name}' = $1", name
    )
    return found, told


async def refused(changes: Changes, request: pb.CreateTeamRequest) -> None:
    """Create a team, and refuse it after that."""

    async def work(change: Change) -> Team:
        made = await teams.create(change, messages.new_team(request))
        change.refuse(NotPermitted(action="go on", because="it is over"))
        return made

    with pytest.raises(NotPermitted):
        await changes.answer(request, pb.CreateTeamResponse, work, messages.team_created)


async def records(owner: Connection) -> int:
    found: int = await owner.fetchval("SELECT count(*) FROM idempotency_records")
    return found


@pytest.mark.usefixtures("running")
async def test_a_change_is_recorded_before_it_is_answered(
    patient: Changes, ledger: LedgerDouble
) -> None:
    answer = await create_team(patient, "blue")
    assert answer.audit.state == receipts.AUDIT_STATE_RECORDED
    assert list(answer.audit.leaf_indexes) == [0]
    assert list(answer.audit.event_ids) == ledger.ids
    assert ledger.entries[0].aggregate == f"team:{answer.team.id}"


@pytest.mark.usefixtures("running")
async def test_a_change_is_deferred_while_the_ledger_is_down_and_recorded_when_asked_again(
    changes: Changes, patient: Changes, ledger: LedgerDouble
) -> None:
    ledger.down = True
    request_id = str(uuid4())
    async with asyncio.timeout(30):  # the ledger comes back only after that
        first = await create_team(changes, "blue", request_id=request_id)
    assert first.audit.state == receipts.AUDIT_STATE_DEFERRED
    assert not first.audit.leaf_indexes
    ledger.down = False
    await eventually(lambda: _has(ledger, 1))
    again = await create_team(patient, "blue", request_id=request_id)
    assert again.audit.state == receipts.AUDIT_STATE_RECORDED
    assert again.team == first.team
    assert again.audit.event_ids == first.audit.event_ids


async def _has(ledger: LedgerDouble, count: int) -> bool:
    return len(ledger.entries) == count


@pytest.mark.usefixtures("running")
async def test_twenty_calls_with_one_id_at_once_make_one_change_and_one_answer(
    patient: Changes, owner: Connection
) -> None:
    request_id = str(uuid4())
    answers = await asyncio.gather(
        *(create_team(patient, "blue", request_id=request_id) for _ in range(20))
    )
    assert await stored(owner, "blue") == (1, 1)
    assert all(answer == answers[0] for answer in answers)


async def test_a_repetition_waits_for_the_first_call(changes: Changes, owner: Connection) -> None:
    request_id, begun, go_on = str(uuid4()), asyncio.Event(), asyncio.Event()
    request = pb.CreateTeamRequest(name="blue", request_id=request_id)

    async def slowly(change: Change) -> Team:
        begun.set()
        await go_on.wait()
        return await teams.create(change, messages.new_team(request))

    first = asyncio.create_task(
        changes.answer(request, pb.CreateTeamResponse, slowly, messages.team_created)
    )
    await begun.wait()
    second = asyncio.create_task(create_team(changes, "blue", request_id=request_id))
    await asyncio.sleep(0.1)
    assert not second.done()
    go_on.set()
    assert (await first).team == (await second).team
    assert await stored(owner, "blue") == (1, 1)


async def test_an_id_belongs_to_its_request_its_caller_and_whom_that_acts_for(
    changes: Changes, db: Database, owner: Connection, call: Call
) -> None:
    request_id = str(uuid4())
    await create_team(changes, "blue", request_id=request_id)
    with pytest.raises(RequestIdReused):
        await create_team(changes, "green", request_id=request_id)
    assert call.actor is not None
    for_another = replace(call.actor, on_behalf_of=uuid4())
    current_call.set(replace(call, actor=for_another))
    with pytest.raises(RequestIdReused):
        await create_team(changes, "blue", request_id=request_id)
    current_call.set(replace(call, actor=await actor_named(db, "dev1")))
    await create_team(changes, "green", request_id=request_id)
    assert [await stored(owner, name) for name in ("blue", "green")] == [(1, 1), (1, 1)]


async def test_a_call_that_failed_may_be_repeated_with_its_id(
    changes: Changes, owner: Connection
) -> None:
    request_id = str(uuid4())
    await create_team(changes, "blue")
    with pytest.raises(ResourceExists):
        await create_team(changes, "blue", request_id=request_id)
    assert await records(owner) == 0
    await owner.execute("DELETE FROM teams WHERE name = 'blue'")
    await create_team(changes, "blue", request_id=request_id)
    assert await records(owner) == 1


async def test_a_refusal_commits_what_was_found_out_and_frees_the_id(
    changes: Changes, owner: Connection
) -> None:
    request_id = str(uuid4())
    request = pb.CreateTeamRequest(name="blue", request_id=request_id)
    await refused(changes, request)
    assert await stored(owner, "blue") == (1, 1)
    assert await records(owner) == 0
    with pytest.raises(ResourceExists):
        await create_team(changes, "blue", request_id=request_id)


async def test_a_rehearsal_answers_and_stores_nothing(
    changes: Changes, owner: Connection, relay: Relay, ledger: LedgerDouble
) -> None:
    request_id = str(uuid4())
    answer = await create_team(changes, "blue", request_id=request_id, validate_only=True)
    assert (answer.team.name, answer.team.etag) == ("blue", "1")
    assert not answer.HasField("audit")
    assert await stored(owner, "blue") == (0, 0)
    assert await records(owner) == 0
    await create_team(changes, "blue", request_id=request_id)
    with pytest.raises(ResourceExists):
        await create_team(changes, "blue", validate_only=True)
    assert await relay.deliver_once() is False
    assert len(ledger.entries) == 1


async def test_a_rehearsal_of_a_refusal_stores_nothing_either(
    changes: Changes, owner: Connection
) -> None:
    await refused(changes, pb.CreateTeamRequest(name="blue", validate_only=True))
    assert await stored(owner, "blue") == (0, 0)


async def test_an_answer_with_secrets_is_not_remembered(
    changes: Changes, owner: Connection
) -> None:
    request = pb.CreateTeamRequest(name="blue", request_id=str(uuid4()))

    async def work(change: Change) -> Team:
        return await teams.create(change, messages.new_team(request))

    await changes.answer(
        request, pb.CreateTeamResponse, work, messages.team_created, remember=False
    )
    assert await stored(owner, "blue") == (1, 1)
    assert await records(owner) == 0


@pytest.mark.usefixtures("running")
async def test_a_caller_who_goes_away_leaves_all_or_nothing(
    changes: Changes, db: Database, owner: Connection
) -> None:
    source = random.Random(3)
    for number in range(40):
        task = asyncio.create_task(create_team(changes, f"team-{number}", request_id=str(uuid4())))
        await asyncio.sleep(source.random() * 0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await changes.settle()
    for number in range(40):
        assert await stored(owner, f"team-{number}") in {(0, 0), (1, 1)}
    made = await owner.fetchval("SELECT count(*) FROM teams WHERE name LIKE 'team-%'")
    assert await records(owner) == made > 0
    assert lent(db) <= 1  # the relay's


async def test_whoever_waits_for_the_ledger_holds_no_connection(
    seeded_database_url: str, ledger: LedgerDouble, owner: Connection
) -> None:
    small = Database(seeded_database_url, role="rm_catalog", application_name="few", pool_size=2)
    relay = Relay(small, PRODUCER, ledger.send)
    backlog = OutboxBacklog(small, PRODUCER, OutboxLimits())
    changes = Changes(small, relay, PRODUCER, backlog, wait_s=60.0)
    calls = [asyncio.create_task(create_team(changes, f"team-{n}")) for n in range(8)]

    async def all_committed() -> bool:
        return await waiting(owner) == 8 and lent(small) == 0

    await eventually(all_committed)
    assert not any(task.done() for task in calls)
    async with runs(relay):
        answers = await asyncio.gather(*calls)
    assert {answer.audit.state for answer in answers} == {receipts.AUDIT_STATE_RECORDED}
    await small.close()


@pytest.mark.parametrize(
    ("given", "standstill"),
    [(0.5, 0.0), (20.0, 0.05), (0.11, 0.04)],
    ids=["short", "stands still", "very short"],
)
async def test_a_committed_change_is_answered_within_the_deadline_of_its_caller(
    patient: Changes,
    relay: Relay,
    monkeypatch: pytest.MonkeyPatch,
    given: float,
    standstill: float,
) -> None:
    """Nobody delivers, and the caller has less time than the wait for it takes.

    The clock of the loop is moved by hand: to the end of the wait, and for as long after it as this
    process stands still.
    """
    loop, acknowledged = asyncio.get_running_loop(), relay.acknowledged
    now = loop.time()

    def pass_by(seconds: float) -> None:
        nonlocal now
        now += seconds

    async def waited(events: Sequence[UUID], seconds: float) -> dict[UUID, int]:
        loop.call_soon(pass_by, seconds + standstill)
        return await acknowledged(events, seconds)

    class OfACaller:
        def time_remaining(self) -> float:
            return given

    class Unary:
        is_unary = True

    async def proceed(_request: object, _context: object) -> pb.CreateTeamResponse:
        return await create_team(patient, "blue")

    monkeypatch.setattr(relay, "acknowledged", waited)
    with monkeypatch.context() as moved:
        moved.setattr(loop, "time", lambda: now)
        answer = await Deadline().around(Unary(), None, OfACaller(), proceed)  # type: ignore[arg-type]
    assert answer.audit.state == receipts.AUDIT_STATE_DEFERRED


async def test_a_version_told_twice_is_a_fault_of_ours_and_nobody_elses(db: Database) -> None:
    (team,) = aggregates(1)
    await commit(db, [version(team, 1)])
    with pytest.raises(Exception, match="twice") as raised:
        await commit(db, [version(team, 1)])
    assert translate(raised.value) is None


@pytest.mark.usefixtures("running")
async def test_an_entry_executed_and_timed_out_is_still_one_receipt(
    patient: Changes, ledger: LedgerDouble
) -> None:
    ledger.faults = [Fault.EXECUTED_AND_TIMED_OUT]
    answer = await create_team(patient, "blue")
    assert answer.audit.state == receipts.AUDIT_STATE_RECORDED
    assert list(answer.audit.event_ids) == ledger.ids
