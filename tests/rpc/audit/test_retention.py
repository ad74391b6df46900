"""Redaction, retirement and legal holds as callers see them."""

from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.audit.v1 import audit_pb2
from release_manager.audit.v1 import retention_pb2 as pb

from shared.errors import (
    NotRedactable,
    NotRetirable,
    PageTokenInvalid,
    PositionOutOfRange,
    ResourceExists,
    ResourceNotFound,
    RoleRequired,
    ScopeRequired,
    UnderLegalHold,
    ValidationFailed,
)
from tests.rpc.audit.conftest import Service, as_, event, refusal
from tests.rpc.audit.test_proofs import verdict

pytestmark = pytest.mark.asyncio(loop_scope="session")
ADMIN, LEAD = as_("admin"), as_("lead1")


def details(**given: Any) -> Struct:
    made = Struct()
    made.update(given)
    return made


async def redact(audit: Service, *fields: str, **named: Any) -> pb.RedactAuditLogResponse:
    request = pb.RedactAuditLogRequest(fields=fields, reason="request 17", **named)
    answer: pb.RedactAuditLogResponse = await audit.retention.RedactAuditLog(
        request, metadata=ADMIN
    )
    return answer


async def test_an_entry_is_redacted_and_says_so(audit: Service) -> None:
    await audit.log(
        event(user="dev1", details=details(mail="a@b.c"), ip_address="192.0.2.1", user_agent="x")
    )
    dry = await redact(audit, "details", leaf_index=0, validate_only=True)
    assert dry.audit_log.details["mail"] == "a@b.c"
    assert not dry.HasField("redaction")
    done = await redact(audit, "details", "user_id", leaf_index=0)
    found = done.audit_log
    assert list(found.redaction.fields) == ["user_id", "details"]
    assert found.redaction.leaf_index == done.redaction.leaf_index
    assert (found.user_id, len(found.details), found.ip_address) == ("", 0, "192.0.2.1")
    told = done.redaction
    assert (told.action, told.resource_type, told.resource_id, told.producer) == (
        "redact",
        "audit_log",
        found.id,
        "audit",
    )
    assert told.user_id == str(audit.user_id("admin"))
    assert told.ip_address
    assert told.details["reason"] == "request 17"
    request = audit_pb2.GetAuditLogRequest(leaf_index=0)
    stored = (await audit.stub.GetAuditLog(request, metadata=LEAD)).audit_log
    assert stored == found
    last = await verdict(audit)
    assert (last.verdict, last.redacted, last.retired) == (
        audit_pb2.LEDGER_VERDICT_INTACT,
        1,
        0,
    )
    again = await redact(audit, "details", id=found.id)
    assert again.redaction == told
    assert isinstance(await refusal(redact(audit, "details", id=told.id)), NotRedactable)
    assert isinstance(await refusal(redact(audit, "details", leaf_index=999)), PositionOutOfRange)


async def test_an_event_that_comes_again_after_its_redaction_is_known(audit: Service) -> None:
    sent = event(user="dev1", details=details(mail="a@b.c"))
    await audit.log(sent)
    await redact(audit, "details", "user_id", leaf_index=0)
    request = audit_pb2.LogActionRequest(event=sent)
    again = await audit.stub.LogAction(request, metadata=as_("deployment"))
    assert again.deduplicated
    assert list(again.audit_log.redaction.fields) == ["user_id", "details"]


@pytest.mark.parametrize(
    "request_",
    [
        pb.RedactAuditLogRequest(leaf_index=0, fields=["details"]),
        pb.RedactAuditLogRequest(leaf_index=0, reason="x"),
        pb.RedactAuditLogRequest(leaf_index=0, fields=["action"], reason="x"),
        pb.RedactAuditLogRequest(leaf_index=0, fields=["details"] * 2, reason="x"),
        pb.RedactAuditLogRequest(fields=["details"], reason="x"),
        pb.RetireAuditLogsRequest(month="2025-13", reason="x"),
        pb.RetireAuditLogsRequest(month="2025-01"),
        pb.RetireAuditLogsRequest(month="0000-01", reason="x"),
        pb.CreateLegalHoldRequest(name="a b", reason="x"),
        pb.CreateLegalHoldRequest(name="a"),
        pb.ReleaseLegalHoldRequest(legal_hold="a"),
        pb.ListLegalHoldsRequest(page_size=-1),
    ],
    ids=str,
)
async def test_what_is_wrong_is_refused(audit: Service, request_: Any) -> None:
    call = type(request_).__name__.removesuffix("Request")
    error = await refusal(getattr(audit.retention, call)(request_, metadata=ADMIN))
    assert isinstance(error, ValidationFailed)


@pytest.mark.parametrize("month", ["2019-05", "2999-12", "9999-12", "0001-01"])
async def test_a_month_that_cannot_go_is_refused(audit: Service, month: str) -> None:
    request = pb.RetireAuditLogsRequest(month=month, reason="x")
    error = await refusal(audit.retention.RetireAuditLogs(request, metadata=ADMIN))
    assert isinstance(error, NotRetirable)


@pytest.mark.parametrize("who", ["lead1", "dev1", "robot", "deployment"])
async def test_only_admins_and_programs_with_the_scope_may(audit: Service, who: str) -> None:
    for call, request in (
        ("RedactAuditLog", pb.RedactAuditLogRequest(leaf_index=0, fields=["details"], reason="x")),
        ("RetireAuditLogs", pb.RetireAuditLogsRequest(month="2020-01", reason="x")),
        ("CreateLegalHold", pb.CreateLegalHoldRequest(name="a", reason="x")),
        ("ReleaseLegalHold", pb.ReleaseLegalHoldRequest(legal_hold="a", reason="x")),
    ):
        error = await refusal(getattr(audit.retention, call)(request, metadata=as_(who)))
        assert isinstance(error, ScopeRequired if who == "robot" else RoleRequired)


async def place(audit: Service, name: str, **named: Any) -> pb.LegalHold:
    reason = named.pop("reason", "a case")
    request = pb.CreateLegalHoldRequest(name=name, reason=reason, **named)
    answer = await audit.retention.CreateLegalHold(request, metadata=ADMIN)
    hold: pb.LegalHold = answer.legal_hold
    return hold


async def test_a_hold_is_placed_listed_and_released(audit: Service) -> None:
    wanted = audit_pb2.AuditLogFilter(
        user="DEV1",
        resource_type="deployment",
        start_date=Timestamp(seconds=1_700_000_000),
        end_date=Timestamp(seconds=4_000_000_000),
        category=audit_pb2.AUDIT_CATEGORY_CHANGE,
        details=details(env={"name": "prod"}, size=3),
    )
    dry = await place(audit, "Case-7", filter=wanted, validate_only=True)
    assert not dry.HasField("created_at")
    made = await place(audit, "Case-7", filter=wanted)
    assert made.filter.user == str(audit.user_id("dev1"))
    wanted.user = made.filter.user
    assert made.filter == wanted
    assert made.placed_by == str(audit.user_id("admin"))
    assert made.HasField("created_at")
    assert await place(audit, "case-7", filter=wanted) == made
    for other in ({"reason": "another"}, {"filter": audit_pb2.AuditLogFilter(action="x")}, {}):
        assert isinstance(await refusal(place(audit, "Case-7", **other)), ResourceExists)
    await audit.log(event(user="dev1", details=details(env={"name": "prod"}, size=3, more=1)))
    position = 1
    error = await refusal(redact(audit, "user_id", leaf_index=position))
    assert isinstance(error, UnderLegalHold)
    assert error.facts == {"hold": "Case-7", "position": "1"}
    release = pb.ReleaseLegalHoldRequest(legal_hold="CASE-7", reason="over")
    release.validate_only = True
    await audit.retention.ReleaseLegalHold(release, metadata=ADMIN)
    assert isinstance(await refusal(redact(audit, "user_id", leaf_index=position)), UnderLegalHold)
    release.validate_only = False
    released = (await audit.retention.ReleaseLegalHold(release, metadata=ADMIN)).legal_hold
    assert (released.released_because, released.released_by) == ("over", made.placed_by)
    release.legal_hold, release.reason = made.id, "again"
    assert (await audit.retention.ReleaseLegalHold(release, metadata=ADMIN)).legal_hold == released
    assert isinstance(await refusal(place(audit, "Case-7", filter=wanted)), ResourceExists)
    await redact(audit, "user_id", leaf_index=position)
    actions = await audit.owner.fetch(
        "SELECT action, resource_id, details ->> 'name' FROM audit_logs"
        " WHERE resource_type = 'legal_hold' ORDER BY leaf_index"
    )
    assert [tuple(row) for row in actions] == [
        ("create", made.id, "Case-7"),
        ("release", made.id, "Case-7"),
    ]
    missing = pb.ReleaseLegalHoldRequest(legal_hold="nothing", reason="x")
    error = await refusal(audit.retention.ReleaseLegalHold(missing, metadata=ADMIN))
    assert isinstance(error, ResourceNotFound)
    error = await refusal(place(audit, "b", filter=audit_pb2.AuditLogFilter(user="nobody")))
    assert isinstance(error, ResourceNotFound)


async def test_holds_are_listed_by_pages(audit: Service) -> None:
    names = [f"case-{number}" for number in range(5)]
    for name in names:
        await place(audit, name, filter=audit_pb2.AuditLogFilter(action=name))
    release = pb.ReleaseLegalHoldRequest(legal_hold="case-2", reason="x")
    await audit.retention.ReleaseLegalHold(release, metadata=ADMIN)
    for released in (False, True):
        wanted = [name for name in names[::-1] if released or name != "case-2"]
        request = pb.ListLegalHoldsRequest(page_size=2, show_released=released)
        found = []
        while True:
            page = await audit.retention.ListLegalHolds(request, metadata=LEAD)
            found += [hold.name for hold in page.legal_holds]
            if not page.next_page_token:
                break
            request.page_token = page.next_page_token
        assert found == wanted
    request.show_released = False
    error = await refusal(audit.retention.ListLegalHolds(request, metadata=LEAD))
    assert isinstance(error, PageTokenInvalid)
