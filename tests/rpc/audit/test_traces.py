"""Who read what is in the ledger before the answer is, and who was refused is soon after."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.appending.ledger import Own
from services.audit.appending.traces import Traces
from services.audit.reading import entries as entries_of
from shared.errors import AppendQueueFull
from tests.rpc.audit.conftest import Service, as_, event, refusal
from tests.support.polling import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")

AGENT = "who-reads/1.0"
ACCESS = pb.AuditLogFilter(category=pb.AUDIT_CATEGORY_ACCESS)
COLUMNS = "action, resource_type, resource_id, user_id, ip_address, user_agent, category, producer"


async def entries(audit: Service, category: str) -> Sequence[asyncpg.Record]:
    """Return what the ledger has of a category that the service itself wrote."""
    return await audit.owner.fetch(
        f"SELECT leaf_index, {COLUMNS}, details::text AS details FROM audit_logs"
        " WHERE category = $1 AND producer = 'audit' ORDER BY leaf_index",
        category,
    )


async def actions(audit: Service) -> list[str]:
    return [entry["action"] for entry in await entries(audit, "access")]


async def soon(audit: Service, category: str, count: int) -> Sequence[Mapping[str, Any]]:
    """Return the entries of a category, their details decoded, as soon as there are so many."""

    async def so_many() -> Sequence[Any] | None:
        found = await entries(audit, category)
        return found if len(found) >= count else None

    found = await eventually(so_many, 5)
    assert len(found) == count
    return [dict(entry) | {"details": json.loads(entry["details"])} for entry in found]


async def drained(call: Any) -> list[Any]:
    return [message async for message in call]


async def test_a_list_is_traced_once_with_what_was_asked_for(audit: Service) -> None:
    await audit.log(*[event(number) for number in range(5)])
    contained = Struct()
    contained.update({"environment": "prod", "n": 1.5})
    wanted = pb.AuditLogFilter(user="lead2", resource_type="deployment", details=contained)
    asked = pb.ListAuditLogsRequest(filter=wanted, include_total=True)
    await audit.stub.ListAuditLogs(asked, metadata=as_("lead1"))
    page = pb.ListAuditLogsRequest(page_size=2)
    first = await audit.stub.ListAuditLogs(page, metadata=as_("lead1"))
    page.page_token = first.next_page_token
    await audit.stub.ListAuditLogs(page, metadata=as_("lead1"))
    filtered, plain = await soon(audit, "access", 2)
    request_id = filtered["details"].pop("request_id")
    assert len(request_id) == 36
    assert filtered["details"] == {
        "method": "ListAuditLogs",
        "filter": {
            "user": "lead2",
            "resource_type": "deployment",
            "details": {"environment": "prod", "n": 1.5},
        },
        "include_total": True,
        "rows": 0,
    }
    assert (filtered["action"], filtered["resource_type"], filtered["resource_id"]) == (
        "list",
        "audit_log",
        "*",
    )
    assert filtered["user_id"] == audit.user_id("lead1")
    assert str(filtered["ip_address"]) == "127.0.0.1"
    assert "grpc" in filtered["user_agent"]
    assert (plain["details"]["filter"], plain["details"]["page_size"]) == ({}, 2)
    assert plain["details"]["rows"] == 2


async def test_a_token_does_not_read_without_a_trace_for_ever(
    audit: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await audit.log(*[event(number) for number in range(6)])
    page = pb.ListAuditLogsRequest(page_size=1, oldest_first=True)
    for _ in range(2):  # the second is within the hour
        found = await audit.stub.ListAuditLogs(page, metadata=as_("lead1"))
        page.page_token = found.next_page_token
    assert await actions(audit) == ["list"]
    monkeypatch.setattr(entries_of, "TOLD_FOR_S", -1)
    found = await audit.stub.ListAuditLogs(page, metadata=as_("lead1"))
    _first, again = await soon(audit, "access", 2)
    assert (again["details"]["resumed"], again["details"]["rows"]) == (True, 1)
    monkeypatch.undo()
    page.page_token = found.next_page_token
    await audit.stub.ListAuditLogs(page, metadata=as_("lead1"))
    assert await actions(audit) == ["list"] * 2


async def test_an_end_that_could_not_be_told_before_the_last_message_is_told_later(
    audit: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Traces.append
    refused: list[str] = []

    async def full_once(self: Traces, own: Own) -> None:
        if own.event.action == "export_done" and not refused:
            refused.append(own.event.action)
            raise AppendQueueFull
        await whole(self, own)

    monkeypatch.setattr(Traces, "append", full_once)
    call = audit.stub.ExportAuditLogs(pb.ExportAuditLogsRequest(), metadata=as_("lead1"))
    with pytest.raises(grpc.aio.AioRpcError):
        await drained(call)
    _begun, ended = await soon(audit, "access", 2)
    assert (ended["action"], ended["details"]["reason"]) == ("export_done", "APPEND_QUEUE_FULL")


async def test_one_entry_is_traced_unless_it_is_the_callers_own(audit: Service) -> None:
    await audit.log(event(1, user="lead1"), event(2, user="lead2"), event(3))
    for index in range(3):
        key = pb.GetAuditLogRequest(leaf_index=index)
        await audit.stub.GetAuditLog(key, metadata=as_("lead1"))
        proof = pb.GetInclusionProofRequest(leaf_index=index)
        await audit.stub.GetInclusionProof(proof, metadata=as_("lead1"))
    ids = [row[0] for row in await audit.owner.fetch("SELECT id FROM audit_logs ORDER BY id")]
    found = [
        (entry["action"], entry["resource_id"], entry["details"]["leaf_index"])
        for entry in await soon(audit, "access", 4)
    ]
    assert found == [
        (action, str(ids[index]), index) for index in (1, 2) for action in ("read", "prove")
    ]


async def test_what_is_refused_or_not_there_leaves_no_trace_of_reading(audit: Service) -> None:
    asked = pb.GetAuditLogRequest(leaf_index=99)
    await refusal(audit.stub.GetAuditLog(asked, metadata=as_("lead1")))
    page = pb.ListAuditLogsRequest(page_token="nonsense")
    await refusal(audit.stub.ListAuditLogs(page, metadata=as_("lead1")))
    await refusal(audit.stub.ListAuditLogs(pb.ListAuditLogsRequest(), metadata=as_("dev1")))
    assert await actions(audit) == []


async def test_streams_are_traced_at_both_ends(audit: Service) -> None:
    await audit.log(*[event(number) for number in range(5)])
    export = pb.ExportAuditLogsRequest(format=pb.EXPORT_FORMAT_NDJSON)
    await drained(audit.stub.ExportAuditLogs(export, metadata=as_("lead1")))
    follow = audit.stub.FollowAuditLogs(
        pb.FollowAuditLogsRequest(from_index=0), metadata=as_("lead1")
    )
    while len((await follow.read()).audit_logs) < 5:
        pass
    follow.cancel()
    await soon(audit, "access", 4)
    verified = await drained(
        audit.stub.VerifyLedger(pb.VerifyLedgerRequest(), metadata=as_("lead1"))
    )
    found = await soon(audit, "access", 6)
    assert [entry["action"] for entry in found] == [
        *("export", "export_done", "follow", "follow_done", "verify", "verify_done")
    ]
    begun, exported, _followed, left, _, judged = [entry["details"] for entry in found]
    assert begun["format"] == "EXPORT_FORMAT_NDJSON"
    assert (exported["reason"], exported["rows"]) == ("COMPLETE", 5)
    assert (left["reason"], left["rows"], left["next_index"] >= 5) == ("CANCELLED", 5, True)
    assert left["seconds"] >= 0
    assert judged["verdict"] == pb.LedgerVerdict.Name(verified[-1].verdict)
    # The same call, told by its id.
    assert begun["request_id"] == exported["request_id"] != left["request_id"]


async def test_traces_are_hidden_unless_asked_for_and_traced_themselves(audit: Service) -> None:
    await audit.log(event(1))
    for _ in range(3):
        everything = pb.ListAuditLogsRequest()
        listed = await audit.stub.ListAuditLogs(everything, metadata=as_("lead1"))
        assert [entry.resource_id for entry in listed.audit_logs] == ["d-1"]
    asked = pb.ListAuditLogsRequest(filter=ACCESS)
    found = await audit.stub.ListAuditLogs(asked, metadata=as_("lead1"))
    assert [entry.action for entry in found.audit_logs] == ["list"] * 3
    assert len(await actions(audit)) == 4


async def test_nothing_is_shown_when_the_trace_cannot_be_written(
    audit: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    await audit.log(event(1))

    async def full(*_: object) -> None:
        raise AppendQueueFull

    monkeypatch.setattr(Traces, "append", full)
    how = {"metadata": as_("lead1")}
    stub = audit.stub
    calls = [
        stub.ListAuditLogs(pb.ListAuditLogsRequest(), **how),
        stub.GetAuditLog(pb.GetAuditLogRequest(leaf_index=0), **how),
        stub.GetInclusionProof(pb.GetInclusionProofRequest(leaf_index=0), **how),
        stub.ExportAuditLogs(pb.ExportAuditLogsRequest(), **how).read(),
        stub.FollowAuditLogs(pb.FollowAuditLogsRequest(from_index=0), **how).read(),
    ]
    for call in calls:
        assert (await refusal(call)).reason == "APPEND_QUEUE_FULL"
    # A verification shows nothing of an entry, and must also work when nothing can be appended.
    answers = await drained(stub.VerifyLedger(pb.VerifyLedgerRequest(), **how))
    assert answers[-1].verdict == pb.LEDGER_VERDICT_INTACT


async def test_denied_calls_are_entries(audit: Service) -> None:
    await refusal(audit.stub.ListAuditLogs(pb.ListAuditLogsRequest(), metadata=as_("dev1")))
    await refusal(audit.stub.GetTile(pb.GetTileRequest()))
    await refusal(audit.stub.GetTile(pb.GetTileRequest(), metadata=as_("nobody")))
    follow = audit.stub.FollowAuditLogs(pb.FollowAuditLogsRequest(), metadata=as_("dev1"))
    await refusal(follow.read())
    await refusal(audit.stub.LogAction(pb.LogActionRequest(event=event()), metadata=as_("lead1")))
    await audit.log(event(1, user="lead1"), by="alone")
    found = await soon(audit, "security", 6)
    service = "/release_manager.audit.v1.AuditService/"
    told = {
        (entry["resource_id"].removeprefix(service), entry["details"]["reason"], entry["user_id"])
        for entry in found
    }
    assert told == {
        ("ListAuditLogs", "ROLE_REQUIRED", audit.user_id("dev1")),
        ("GetTile", "CREDENTIALS_MISSING", None),
        ("GetTile", "TOKEN_REJECTED", None),
        ("FollowAuditLogs", "ROLE_REQUIRED", audit.user_id("dev1")),
        ("LogAction", "SCOPE_REQUIRED", audit.user_id("lead1")),
        ("LogActions", "SCOPE_REQUIRED", audit.user_id("alone")),
    }
    assert {entry["action"] for entry in found} == {"call_denied"}
    assert {entry["details"]["count"] for entry in found} == {1}
    assert all(entry["ip_address"] and "grpc" in entry["user_agent"] for entry in found)
    listed = await audit.stub.ListAuditLogs(pb.ListAuditLogsRequest(), metadata=as_("lead1"))
    assert [entry.action for entry in listed.audit_logs].count("call_denied") == 6


async def test_a_flood_of_denied_calls_is_one_entry_and_a_count(audit: Service) -> None:
    for _ in range(200):
        await refusal(audit.stub.ListAuditLogs(pb.ListAuditLogsRequest(), metadata=as_("dev1")))
    [first] = await soon(audit, "security", 1)
    assert first["details"]["count"] == 1
    await audit.stop()
    _, rest = await soon(audit, "security", 2)
    assert rest["details"]["count"] == 199
    assert rest["details"]["first_at"] < rest["details"]["last_at"]


async def test_a_reused_event_id_is_an_entry(audit: Service) -> None:
    one = event(1)
    await audit.log(one)
    other = event(2, event_id=one.event_id)
    for _ in range(3):
        await audit.log(other, event(3), other)
    request = pb.LogActionRequest(event=other)
    error = await refusal(audit.stub.LogAction(request, metadata=as_("deployment")))
    assert error.reason == "EVENT_ID_REUSED"
    [found] = await soon(audit, "security", 1)
    assert (found["action"], found["resource_type"], found["resource_id"]) == (
        "event_id_reused",
        "event",
        one.event_id,
    )
    assert found["user_id"] == audit.user_id("deployment")
    told = {name: found["details"][name] for name in ("event_id", "leaf_index", "producer")}
    assert told == {"event_id": one.event_id, "leaf_index": 0, "producer": "deployment"}
    assert found["details"]["count"] == 2
    await audit.stop()
    _, rest = await soon(audit, "security", 2)
    assert rest["details"]["count"] == 5


async def test_nobody_else_is_the_service_itself(audit: Service) -> None:
    refused = await refusal(audit.log(event(1), by="Audit"))
    assert refused.reason == "NOT_PERMITTED"
    with_category = event(1, category=pb.AUDIT_CATEGORY_ACCESS)
    assert (await refusal(audit.log(with_category))).reason == "VALIDATION_FAILED"
