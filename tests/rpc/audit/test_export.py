"""ExportAuditLogs: the bytes, their cuts, and what it costs nobody."""

import asyncio
import csv
import io
import json
from typing import Any

import grpc
import pytest
from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.exporting import export
from services.audit.exporting import windows as export_windows
from shared.rpc.status import from_rpc_error
from tests.rpc.audit.conftest import Service, as_, event
from tests.support.polling import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

HEADER = "ID,User ID,Action,Resource Type,Resource ID,Details,IP Address,User Agent,Created At\n"
NASTY = ['a"b', "line\nbreak", "comma,", "=1+1", "+1", "-1", "@x", "\tx", "\rx", "😀", "'", "\\."]


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many windows and chunks from few entries."""
    for name in ("FIRST_WINDOW", "SMALLEST_WINDOW", "LARGEST_WINDOW"):
        monkeypatch.setattr(export_windows, name, 7)
    monkeypatch.setattr(export, "CHUNK_BYTES", 500)
    monkeypatch.setattr(export_windows, "SPOOL_BYTES", 800)


async def exported(audit: Service, by: str = "lead1", **asked: Any) -> list[Any]:
    call = audit.stub.ExportAuditLogs(pb.ExportAuditLogsRequest(**asked), metadata=as_(by))
    return [chunk async for chunk in call]


def joined(chunks: list[Any]) -> str:
    return b"".join(chunk.data for chunk in chunks).decode()


async def reason(audit: Service, by: str = "lead1", **asked: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await exported(audit, by, **asked)
    error = from_rpc_error(failure.value)
    assert error is not None
    return error.reason


async def fill(audit: Service) -> None:
    batch = []
    for number, text in enumerate(NASTY * 4):
        made = event(number, resource_id=text, user_agent=text, user="lead2" if number % 2 else "")
        made.ip_address = "10.0.0.1" if number % 3 else ""
        made.details.update({"text": text, "n": number})
        batch.append(made)
    batch.append(event(99, user_agent=""))
    await audit.log(*batch)


async def test_an_empty_ledger_is_a_header(audit: Service) -> None:
    chunks = await exported(audit)
    assert joined(chunks) == HEADER
    assert chunks[-1].complete
    assert chunks[-1].rows == 0


async def test_every_value_arrives_as_it_was(audit: Service) -> None:
    await fill(audit)
    chunks = await exported(audit)
    text = joined(chunks)
    assert text.startswith(HEADER)
    rows = list(csv.reader(io.StringIO(text, newline="")))[1:]
    stored = await audit.owner.fetch(
        "SELECT * FROM audit_logs WHERE category <> 'access' ORDER BY leaf_index"
    )
    assert len(rows) == len(stored) == chunks[-1].rows == 49
    for row, entry in zip(rows, stored, strict=True):
        assert row == [
            str(entry["id"]),
            "" if entry["user_id"] is None else str(entry["user_id"]),
            entry["action"],
            entry["resource_type"],
            entry["resource_id"],
            entry["details"],
            "" if entry["ip_address"] is None else str(entry["ip_address"]),
            entry["user_agent"] or "",
            entry["created_at"].strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        ]
        json.loads(row[5])


async def test_the_spreadsheet_form_disarms_formulas(audit: Service) -> None:
    await fill(audit)
    chunks = await exported(audit, format=pb.EXPORT_FORMAT_CSV_SPREADSHEET)
    rows = list(csv.reader(io.StringIO(joined(chunks), newline="")))[1:]
    for number, row in enumerate(rows[:-1]):
        text = NASTY[number % len(NASTY)]
        expected = f"'{text}" if text[0] in "=+-@\t\r" else text
        assert row[4] == row[7] == expected
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)


async def test_a_cut_export_goes_on_with_the_same_bytes(audit: Service) -> None:
    await fill(audit)
    wanted = pb.AuditLogFilter(action="deploy")
    whole = await exported(audit, filter=wanted)
    assert len([chunk for chunk in whole if chunk.resume_token]) > 7
    for cut, chunk in enumerate(whole):
        if not chunk.resume_token:
            continue
        await audit.log(event(1000 + cut))  # what comes later is not part of this export
        rest = await exported(audit, filter=wanted, resume_token=chunk.resume_token)
        assert joined(whole[: cut + 1]) + joined(rest) == joined(whole)
        assert rest[-1].tree_size == whole[-1].tree_size


async def test_a_resume_token_belongs_to_its_export_and_caller(audit: Service) -> None:
    await fill(audit)
    token = next(chunk.resume_token for chunk in await exported(audit) if chunk.resume_token)
    spreadsheet = pb.EXPORT_FORMAT_CSV_SPREADSHEET
    wrong = "PAGE_TOKEN_INVALID"
    assert await reason(audit, by="lead2", resume_token=token) == wrong
    assert await reason(audit, resume_token=token, format=spreadsheet) == wrong
    filtered = pb.AuditLogFilter(action="deploy")
    assert await reason(audit, resume_token=token, filter=filtered) == wrong
    page = await audit.stub.ListAuditLogs(
        pb.ListAuditLogsRequest(page_size=1), metadata=as_("lead1")
    )
    assert await reason(audit, resume_token=page.next_page_token) == wrong


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        ({"user": "lead2"}, 24),
        ({"resource_id": "a\"b'; DROP TABLE audit_logs; --"}, 0),
        ({"resource_id": "'"}, 4),
        ({"resource_id": "\\."}, 4),
        ({"action": "$1 OR true"}, 0),
        ({"producer": "deployment", "user": "lead2", "resource_type": "deployment"}, 24),
    ],
)
async def test_filters_select_and_never_inject(
    audit: Service, wanted: dict[str, Any], rows: int
) -> None:
    await fill(audit)
    chunks = await exported(audit, filter=pb.AuditLogFilter(**wanted))
    assert chunks[-1].rows == rows
    assert len(list(csv.reader(io.StringIO(joined(chunks), newline="")))) == rows + 1


AT_REST = """
    SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database()
        AND application_name = 'audit_reader' AND state <> 'idle'
"""


async def test_slow_readers_hold_slots_and_nothing_in_the_database(
    audit: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "CHUNK_BYTES", 65_536)
    monkeypatch.setattr(export_windows, "LARGEST_WINDOW", 100)
    for _ in range(12):
        batch = [event(number) for number in range(300)]
        for one in batch:
            one.details.update({"padding": "x" * 5_000})
        await audit.log(*batch)
    stalled = []
    for _ in range(2):
        request = pb.ExportAuditLogsRequest()
        call = audit.stub.ExportAuditLogs(request, metadata=as_("lead1"))
        await call.read()
        stalled.append(call)
    assert await reason(audit) == "EXPORT_SLOTS_TAKEN"
    await asyncio.sleep(1)
    # Verification reads through the same pool at its own times; what an export held would stay.
    await eventually(lambda: audit.owner.fetchval(AT_REST), 20)
    assert await reason(audit) == "EXPORT_SLOTS_TAKEN"
    await audit.log(event(4_000))
    assert (await exported(audit, by="lead2"))[-1].rows == 3_601
    for call in stalled:
        call.cancel()
    await eventually(lambda: a_slot_is_free(audit), 30)


async def a_slot_is_free(audit: Service) -> bool:
    try:
        await exported(audit)
    except grpc.aio.AioRpcError:
        return False
    return True


async def test_exporting_is_for_leads(audit: Service) -> None:
    assert await reason(audit, by="dev1") == "ROLE_REQUIRED"
