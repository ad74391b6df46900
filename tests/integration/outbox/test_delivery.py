"""The whole delivery over a real channel, to a real server that misbehaves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
import pytest
from release_manager.audit.v1 import audit_pb2 as pb
from release_manager.audit.v1 import audit_pb2_grpc
from release_manager.common.v1 import audit_receipt_pb2 as receipts

from seed.rows import Connection
from services.catalog.store.versions import versions
from shared.db.engine import Database
from shared.errors import AuditBacklog, AuditUnavailable
from shared.outbox.backlog import OutboxLimits
from shared.outbox.change import Change
from shared.outbox.delivery import Delivery, DeliveryBounds, Loops
from shared.rpc.channel import dial
from tests.integration.outbox.ledger_double import Fault, LedgerDouble
from tests.integration.outbox.working import (
    PRODUCER,
    aggregates,
    create_team,
    version,
    waiting,
)
from tests.support.machine import free_ports
from tests.support.polling import eventually


class Servicer(audit_pb2_grpc.AuditServiceServicer):
    """Serves a double; with a fault that is a time-out it answers too late."""

    def __init__(self, ledger: LedgerDouble) -> None:
        self.ledger = ledger

    async def LogActions(self, request: pb.LogActionsRequest, context: Any) -> Any:
        try:
            return pb.LogActionsResponse(results=await self.ledger.send(request.events, 2))
        except TimeoutError:
            await asyncio.sleep(60)
        except AuditUnavailable as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))

    async def GetAggregateSequences(
        self, request: pb.GetAggregateSequencesRequest, _context: Any
    ) -> Any:
        found = await self.ledger.sequences(request.aggregates)
        return pb.GetAggregateSequencesResponse(sequences=found)


@asynccontextmanager
async def serving(ledger: LedgerDouble, port: int = 0) -> AsyncIterator[int]:
    server = grpc.aio.server()
    servicer = Servicer(ledger)  # type: ignore[abstract]  # the rest is not called
    audit_pb2_grpc.add_AuditServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


def delivery_to(db: Database, port: int, bounds: DeliveryBounds | None = None) -> Delivery:
    channel = dial(f"127.0.0.1:{port}", unavailable=AuditUnavailable)
    return Delivery(db, PRODUCER, channel, versions, bounds)


@pytest.mark.usefixtures("call")
async def test_changes_are_recorded_through_time_outs_and_the_ledger_is_complete(
    db: Database, ledger: LedgerDouble
) -> None:
    ledger.faults = [None, Fault.EXECUTED_AND_TIMED_OUT, Fault.UNREACHABLE, None]
    bounds = DeliveryBounds(wait_s=8.0)
    async with serving(ledger) as port, delivery_to(db, port, bounds) as delivery:
        for name in ("blue", "green", "red"):
            answer = await create_team(delivery.changes, name)
            assert answer.audit.state == receipts.AUDIT_STATE_RECORDED
        said = await delivery.reconciler.reconcile()
    assert (said.aggregates, said.missing) == (3, 0)
    assert len(ledger.entries) == len(set(ledger.ids)) == 3


@pytest.mark.usefixtures("call")
async def test_a_server_that_is_away_comes_back_to_what_has_waited(
    db: Database, ledger: LedgerDouble, owner: Connection
) -> None:
    (port,) = free_ports(1)
    async with delivery_to(db, port) as delivery:
        answer = await create_team(delivery.changes, "blue")
        assert answer.audit.state == receipts.AUDIT_STATE_DEFERRED
        async with serving(ledger, port):
            await eventually(lambda: _delivered(owner), 20)
    assert ledger.ids == list(answer.audit.event_ids)


async def _delivered(owner: Connection) -> bool:
    return await waiting(owner) == 0


@pytest.mark.usefixtures("call")
async def test_leaving_lets_a_change_end_whose_caller_has_gone(
    db: Database, ledger: LedgerDouble, owner: Connection
) -> None:
    async with serving(ledger) as port, delivery_to(db, port) as delivery:
        task = asyncio.create_task(create_team(delivery.changes, "blue"))
        await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    made = await owner.fetchval("SELECT count(*) FROM teams WHERE name = 'blue'")
    assert made == await owner.fetchval("SELECT count(*) FROM outbox") == 1


async def test_what_happens_by_itself_is_recorded_without_a_user_and_stops_at_the_hard_limit(
    db: Database, ledger: LedgerDouble
) -> None:
    limits = replace(OutboxLimits(), hard_rows=0)
    first, second = aggregates(2)

    async def work(change: Change) -> None:
        change.record(version(first, 1))

    async def never(change: Change) -> None:
        change.record(version(second, 1))

    async with serving(ledger) as port:
        delivery = delivery_to(db, port, DeliveryBounds(limits))
        await delivery.by_itself(work)
        await delivery.backlog.look()
        with pytest.raises(AuditBacklog):
            await delivery.by_itself(never)
        async with delivery:
            await eventually(lambda: _has_one(ledger))
    assert (ledger.entries[0].user, ledger.entries[0].aggregate) == ("", first)


async def _has_one(ledger: LedgerDouble) -> bool:
    return len(ledger.entries) == 1


@pytest.mark.parametrize("end", [RuntimeError, asyncio.CancelledError, None])
async def test_a_loop_that_ends_is_started_again(
    end: type[BaseException] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.outbox.delivery.RESTART_S", 0.01)
    runs = 0

    again = asyncio.Event()

    async def loop() -> None:
        nonlocal runs
        runs += 1
        if runs > 2:
            again.set()
        if end is not None:
            raise end

    async with Loops({"test": loop}), asyncio.timeout(10):
        await again.wait()
