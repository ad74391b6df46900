"""ListAuditLogs: filters, order, pages."""

from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.reading import searching
from tests.rpc.audit.conftest import Service, as_, event, refusal

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def pages(audit: Service, by: str = "lead1", **asked: Any) -> list[list[int]]:
    found, token = [], ""
    while True:
        request = pb.ListAuditLogsRequest(**asked, page_token=token)
        answer = await audit.stub.ListAuditLogs(request, metadata=as_(by))
        found.append([entry.leaf_index for entry in answer.audit_logs])
        token = answer.next_page_token
        if not token:
            return found


async def listed(audit: Service, **wanted: Any) -> list[int]:
    found = await pages(audit, filter=pb.AuditLogFilter(**wanted), page_size=3)
    return [index for page in found for index in page]


@pytest.fixture
def ten() -> list[pb.AuditEvent]:
    return [
        event(
            n,
            action="deploy" if n % 2 else "approve",
            resource_type="deployment" if n < 8 else "team",
            resource_id=f"d-{n % 3}",
            user="lead2" if n % 5 == 0 else "",
            category=pb.AUDIT_CATEGORY_SECURITY if n == 9 else pb.AUDIT_CATEGORY_CHANGE,
        )
        for n in range(10)
    ]


async def test_newest_first_and_oldest_first(audit: Service, ten: list[pb.AuditEvent]) -> None:
    await audit.log(*ten)
    assert await pages(audit, page_size=4) == [[9, 8, 7, 6], [5, 4, 3, 2], [1, 0]]
    found = await pages(audit, page_size=4, oldest_first=True)
    assert found == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert await pages(audit, page_size=5) == [[9, 8, 7, 6, 5], [4, 3, 2, 1, 0]]
    assert await pages(audit) == [list(range(9, -1, -1))]


async def test_filters_combine(audit: Service, ten: list[pb.AuditEvent]) -> None:
    await audit.log(*ten)
    await audit.log(event(10), by="alone")
    assert await listed(audit, user="lead2") == [5, 0]
    assert await listed(audit, user=str(audit.user_id("lead2")), action="approve") == [0]
    assert await listed(audit, action="deploy") == [10, 9, 7, 5, 3, 1]
    assert await listed(audit, resource_type="team") == [9, 8]
    assert await listed(audit, resource_id="d-1") == [7, 4, 1]
    assert await listed(audit, resource_type="deployment", resource_id="d-1") == [7, 4, 1]
    assert await listed(audit, resource_type="team", resource_id="d-1") == []
    assert await listed(audit, producer="alone") == [10]
    assert await listed(audit, category=pb.AUDIT_CATEGORY_SECURITY) == [9]
    # The reads above left traces.
    assert await listed(audit, category=pb.AUDIT_CATEGORY_ACCESS, producer="deployment") == []
    everything = await listed(audit, category=pb.AUDIT_CATEGORY_ALL, producer="deployment")
    assert everything == list(range(9, -1, -1))
    error = await refusal(
        audit.stub.ListAuditLogs(
            pb.ListAuditLogsRequest(filter=pb.AuditLogFilter(user="nobody")), metadata=as_("lead1")
        )
    )
    assert error.reason == "RESOURCE_NOT_FOUND"


async def test_dates_are_exact_to_the_microsecond(audit: Service, ten: list[pb.AuditEvent]) -> None:
    for one in ten:
        await audit.log(one)
    rows = await audit.owner.fetch("SELECT created_at FROM audit_logs ORDER BY leaf_index")
    times = []
    for row in rows:
        moment = Timestamp()
        moment.FromDatetime(row[0])
        times.append(moment)
    assert await listed(audit, start_date=times[3], end_date=times[6]) == [5, 4, 3]
    assert await listed(audit, start_date=times[8]) == [9, 8]
    assert await listed(audit, end_date=times[1]) == [0]
    assert await listed(audit, end_date=times[0]) == []
    assert await listed(audit, action="deploy", end_date=times[4]) == [3, 1]
    later = Timestamp(seconds=times[9].seconds, nanos=times[9].nanos + 1000)
    assert await listed(audit, start_date=later) == []


async def test_totals(
    audit: Service, ten: list[pb.AuditEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    await audit.log(*ten)
    monkeypatch.setattr("services.audit.reading.entries.COUNTING_MS", 30_000)
    request = pb.ListAuditLogsRequest(
        filter=pb.AuditLogFilter(action="deploy"), page_size=1, include_total=True
    )
    answer = await audit.stub.ListAuditLogs(request, metadata=as_("lead1"))
    assert (answer.total, answer.total_is_estimate) == (5, False)
    monkeypatch.setattr("services.audit.reading.entries.COUNTED", 3)
    answer = await audit.stub.ListAuditLogs(request, metadata=as_("lead1"))
    assert answer.total >= 4
    assert answer.total_is_estimate
    request.include_total = False
    answer = await audit.stub.ListAuditLogs(request, metadata=as_("lead1"))
    assert not answer.HasField("total")


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_a_page_examines_no_more_than_it_may(
    audit: Service,
    ten: list[pb.AuditEvent],
    oldest_first: bool,  # noqa: FBT001  (a parameter)
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await audit.log(*ten)
    monkeypatch.setattr(searching, "EXAMINED", 4)
    for wanted, matching, fewest_pages in (
        ({"producer": "deployment"}, set(range(10)), 3),
        ({"producer": "deployment", "action": "deploy"}, {1, 3, 5, 7, 9}, 2),
        ({"resource_id": "d-1"}, {1, 4, 7}, 1),
        ({"action": "approve", "resource_id": "d-0"}, {0, 6}, 1),
        ({"action": "deploy", "resource_type": "team"}, {9}, 1),
        ({"producer": "nobody"}, set(), 1),
    ):
        filter_ = pb.AuditLogFilter(**wanted)  # type: ignore[arg-type]
        found = await pages(audit, filter=filter_, oldest_first=oldest_first)
        flat = [index for page in found for index in page]
        assert flat == sorted(matching, reverse=not oldest_first), wanted
        assert all(len(page) <= 4 for page in found)
        assert len(found) >= fewest_pages, wanted


async def test_a_token_belongs_to_its_query_and_caller(
    audit: Service, ten: list[pb.AuditEvent]
) -> None:
    await audit.log(*ten)
    first = pb.ListAuditLogsRequest(page_size=2)
    token = (await audit.stub.ListAuditLogs(first, metadata=as_("lead1"))).next_page_token
    for request, caller in (
        (pb.ListAuditLogsRequest(page_token=token, oldest_first=True), "lead1"),
        (pb.ListAuditLogsRequest(page_token=token[:-1] + "A"), "lead1"),
        (
            pb.ListAuditLogsRequest(page_token=token, filter=pb.AuditLogFilter(action="deploy")),
            "lead1",
        ),
        (pb.ListAuditLogsRequest(page_token=token), "lead2"),
    ):
        error = await refusal(audit.stub.ListAuditLogs(request, metadata=as_(caller)))
        assert error.reason == "PAGE_TOKEN_INVALID"


@pytest.mark.parametrize("rpc", ["ListAuditLogs", "GetAuditLog"])
async def test_reading_is_for_leads(audit: Service, rpc: str) -> None:
    requests = {
        "ListAuditLogs": pb.ListAuditLogsRequest(),
        "GetAuditLog": pb.GetAuditLogRequest(leaf_index=0),
    }
    error = await refusal(getattr(audit.stub, rpc)(requests[rpc], metadata=as_("dev1")))
    assert error.reason == "ROLE_REQUIRED"
