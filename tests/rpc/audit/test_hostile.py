"""Values chosen to hurt: each is stored and can be proved, or refused with a reason."""

import json

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.rules.canonical import canonical
from services.audit.rules.events import address_text, leaf_values, microseconds
from services.audit.rules.leaf import event_digest, leaf_hash
from tests.rpc.audit.conftest import Service, as_, event, refusal

pytestmark = pytest.mark.asyncio(loop_scope="session")

FIRST = Timestamp(seconds=-62_135_596_800)
LAST = Timestamp(seconds=253_402_300_799, nanos=999_999_999)
EARLIEST = Timestamp(seconds=FIRST.seconds + 366 * 86_400)
LATEST = Timestamp(seconds=LAST.seconds - 366 * 86_400, nanos=999_999_000)
LARGEST_ID = "ffffffff-ffff-7fff-bfff-ffffffffffff"
ADDRESSES = (
    *("0.0.0.1", "255.255.255.255", "::", "::1", "::1.2.3.4", "::ffff:1.2.3.4", "64:ff9b::1.2.3.4"),
    *("2001:DB8:0:0:1:0:0:1", "fe80::1", "1:0:0:2:0:0:0:3", "::ffff:0:1.2.3.4", "1:2:3:4:5:6:7::"),
)
TEXTS = (
    "\x01\x1f\x7f\x80\x9f",
    "\u2028\u2029\ufeff\u200b",
    "e\u0301 \u00e9",
    "\U0001f469\u200d\U0001f4bb",
    "\\u0000 \\x00 '' \"\" $1 %s",
    " leading and trailing ",
    "\r\n\t\v",
    "\ud7ff\ue000\uffff\U0010ffff",
)
NUMBERS = (
    *(0.0, 1.0, -1.5, 0.1, 1 / 3, 5e-324, 2.2250738585072014e-308, 1e-7, 123456.789e-3),
    *(2.0**53 - 1, -(2.0**53 - 1), 4503599627370497.5, 0.000001, 0.0000001, 1e-21),
)


async def stored(audit: Service) -> list[bool]:
    """Compute every leaf again from its row; say of each whether it is the stored one."""
    found = []
    for row in await audit.owner.fetch(
        "SELECT *, details::text AS text FROM audit_logs ORDER BY leaf_index"
    ):
        values = leaf_values(
            event_id=row["event_id"],
            occurred_at=row["occurred_at"],
            user_id=row["user_id"],
            action=row["action"],
            resource_type=row["resource_type"],
            resource_id=row["resource_id"],
            details=canonical(json.loads(row["text"])),
            ip_address=row["ip_address"] and address_text(row["ip_address"]),
            user_agent=row["user_agent"],
            category=row["category"],
            producer=row["producer"],
            aggregate=row["aggregate"],
            aggregate_seq=row["aggregate_seq"],
        )
        digest = event_digest(values, row["salt"])
        leaf = leaf_hash(row["leaf_index"], microseconds(row["created_at"]), digest)
        found.append(digest == row["event_digest"] and leaf == row["leaf_hash"])
    return found


async def test_what_is_stored_can_be_proved_and_comes_back(audit: Service) -> None:
    batch = [event(n, ip_address=address) for n, address in enumerate(ADDRESSES)]
    batch += [event(resource_id=text, user_agent=text) for text in TEXTS]
    batch += [event(occurred_at=moment) for moment in (EARLIEST, LATEST)]
    batch += [event(aggregate=f"a:{n}", aggregate_seq=n) for n in (1, 2**63 - 1)]
    for number in NUMBERS:
        batch.append(event())
        batch[-1].details.update({"n": number, "in": [number, {"x": number}]})
    for text in TEXTS:
        batch.append(event())
        batch[-1].details.update({text: text, "in": [text, {text: [text]}]})
    batch.append(event())
    batch[-1].details.update({"": "", "a": {}, "b": [], "c": None, "1": True, "\U0001f600": False})
    answer = await audit.log(*batch)
    assert {result.outcome for result in answer.results} == {pb.APPEND_OUTCOME_APPENDED}
    assert all(await stored(audit))
    again = await audit.log(*batch)
    assert {result.outcome for result in again.results} == {pb.APPEND_OUTCOME_DUPLICATE}
    for index, sent in enumerate(batch):
        request = pb.GetAuditLogRequest(leaf_index=index)
        entry = (await audit.stub.GetAuditLog(request, metadata=as_("lead1"))).audit_log
        assert entry.details == sent.details
        assert (entry.resource_id, entry.user_agent) == (sent.resource_id, sent.user_agent)


async def test_one_event_answers_alike_the_first_time_and_again(audit: Service) -> None:
    one = event(ip_address="::ffff:1.2.3.4", occurred_at=LATEST)
    one.details.update({"zero": -0.0, "one": 1.0, "list": [1.0, -0.0]})
    one.details.fields["nothing"]  # a value of no kind
    request = pb.LogActionRequest(event=one)
    first = await audit.stub.LogAction(request, metadata=as_("deployment"))
    again = await audit.stub.LogAction(request, metadata=as_("deployment"))
    assert again.deduplicated
    assert again.audit_log == first.audit_log


async def test_an_id_beyond_all_time_hinders_only_itself(audit: Service) -> None:
    answer = await audit.log(event(1), event(2, event_id=LARGEST_ID), event(3))
    assert [result.reason for result in answer.results] == ["", "VALIDATION_FAILED", ""]
    request = pb.LogActionRequest(event=event(event_id=LARGEST_ID))
    error = await refusal(audit.stub.LogAction(request, metadata=as_("deployment")))
    assert error.reason == "VALIDATION_FAILED"


async def test_a_time_that_would_be_stored_as_infinite_is_refused(audit: Service) -> None:
    answer = await audit.log(event(1, occurred_at=FIRST), event(2), event(3, occurred_at=LAST))
    told = [result.reason for result in answer.results]
    assert told == ["VALIDATION_FAILED", "", "VALIDATION_FAILED"]
    assert "occurred_at" in answer.results[0].message


@pytest.mark.parametrize("moment", [FIRST, LAST])
async def test_dates_at_the_ends_of_time_filter(audit: Service, moment: Timestamp) -> None:
    await audit.log(event(1))
    for name in ("start_date", "end_date"):
        wanted = pb.AuditLogFilter()
        getattr(wanted, name).CopyFrom(moment)
        request = pb.ListAuditLogsRequest(filter=wanted)
        answer = await audit.stub.ListAuditLogs(request, metadata=as_("lead1"))
        shown = (name == "start_date") == (moment == FIRST)
        assert len(answer.audit_logs) == shown
