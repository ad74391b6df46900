"""Eight exports at a time: who comes ninth is told so, and a slot is free as soon as one ends."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.exporting import export
from shared.errors import ExportSlotsTaken
from shared.ids import new_id
from shared.rpc.slots import Slots
from shared.rpc.status import from_rpc_error
from tests.rpc.audit.conftest import Service, as_, event
from tests.support.polling import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_two_of_one_caller_and_eight_of_all() -> None:
    slots = Slots(ExportSlotsTaken, per_caller=export.SLOTS_PER_CALLER, total=export.SLOTS)
    callers = [new_id() for _ in range(5)]
    with ExitStack() as running:
        for caller in callers[:4]:
            for _ in range(2):
                running.enter_context(slots.taken(caller))
        for caller in (callers[0], callers[4]):
            with pytest.raises(ExportSlotsTaken), slots.taken(caller):
                pass
    for _ in range(8):
        with slots.taken(callers[0]), slots.taken(callers[0]):
            pass


async def stalled(audit: Service, people: Sequence[str]) -> list[Any]:
    """Begin an export of each, and read its header only."""
    calls = []
    for who in people:
        call = audit.stub.ExportAuditLogs(pb.ExportAuditLogsRequest(), metadata=as_(who))
        await call.read()
        calls.append(call)
    return calls


async def exported(audit: Service, who: str) -> str:
    """Export everything; return "" or the reason of the refusal."""
    call = audit.stub.ExportAuditLogs(pb.ExportAuditLogsRequest(), metadata=as_(who))
    try:
        async for _ in call:
            pass
    except grpc.aio.AioRpcError as failure:
        error = from_rpc_error(failure)
        assert error is not None
        return error.reason
    return ""


@pytest.fixture
def four_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the service, which is started after this, run four exports at a time."""
    monkeypatch.setattr(export, "SLOTS", 4)


@pytest.mark.usefixtures("four_slots")
async def test_every_way_to_end_gives_the_slot_back(audit: Service) -> None:
    for _ in range(5):
        batch = [event(number) for number in range(60)]
        for one in batch:
            one.details.update({"padding": "x" * 60_000})
        await audit.log(*batch)
    people = ["lead1", "lead1", "lead2", "lead2"]
    assert await exported(audit, "admin") == ""
    calls = await stalled(audit, people)
    assert await exported(audit, "admin") == "EXPORT_SLOTS_TAKEN"
    calls[0].cancel()
    await eventually(lambda: all_served(audit, ["admin"]), 30)
    while not (await calls[1].read()).complete:
        pass
    assert await exported(audit, "admin") == ""
    # The database refuses in the middle: the next window fails, and with it the export.
    await audit.owner.execute("REVOKE SELECT ON audit_logs FROM rm_audit_reader")
    assert await exported(audit, "admin") != ""
    await audit.owner.execute("GRANT SELECT ON audit_logs TO rm_audit_reader")
    for call in calls[2:]:
        call.cancel()
    await eventually(lambda: all_served(audit, people), 30)


async def all_served(audit: Service, people: Sequence[str]) -> bool:
    return not [who for who in people if await exported(audit, who)]
