"""Lists of a long ledger, held against a filter of our own over the same entries."""

from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.struct_pb2 import Struct
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from release_manager.audit.v1 import audit_pb2 as pb

from services.audit.reading import searching
from tests.rpc.audit.conftest import Service, as_, event, refusal
from tests.support.past_entries import (
    ACTIONS,
    FIRST,
    PRODUCERS,
    TYPES,
    USERS,
    PastEntry,
    made_up,
    put_in,
)

pytestmark = pytest.mark.asyncio(loop_scope="session")

SIZE = 400
MONTHS = 7
CATEGORIES = {
    pb.AUDIT_CATEGORY_UNSPECIFIED: {"change", "security"},
    pb.AUDIT_CATEGORY_CHANGE: {"change"},
    pb.AUDIT_CATEGORY_ACCESS: {"access"},
    pb.AUDIT_CATEGORY_SECURITY: {"security"},
    pb.AUDIT_CATEGORY_ALL: {"change", "security", "access"},
}
DETAILS: tuple[dict[str, Any], ...] = (
    {},
    {"environment": "prod"},
    {"environment": "prod", "count": 1.5},
    {"count": 1},
    {"count": -2},
    {"incident": 7},
    {"incident": 8},
    {"moved": True},
    {"moved": True, "environment": "staging"},
    {"nothing": None},
    {"gates": [{"name": "freeze"}]},
    {"gates": [{"passed": True, "name": "approval"}, {"passed": False}]},
    {"gates": []},
    {"empty": {}},
    {"empty": {}, "gates": []},
    {"count": "1"},
    {"gates": {"name": "freeze"}},
)


class Past:
    """A service over made-up entries of seven months."""

    def __init__(self, audit: Service, entries: list[PastEntry]) -> None:
        self.audit = audit
        self.entries = entries


@pytest_asyncio.fixture(loop_scope="session")
async def past(audit: Service) -> AsyncIterator[Past]:
    yield await made(audit, gone=4)


@pytest_asyncio.fixture(loop_scope="session")
async def whole(audit: Service) -> AsyncIterator[Past]:
    """The same without a month that is gone."""
    yield await made(audit)


async def made(audit: Service, gone: int = 0) -> Past:
    entries = made_up(SIZE, months=MONTHS, seed=5, gone=gone)
    await put_in(audit.owner, entries, size=SIZE)
    return Past(audit, entries)


def struct(**fields: Any) -> Struct:
    made = Struct()
    made.update(fields)
    return made


def contains(whole: Any, part: Any) -> bool:
    """Tell whether JSON contains JSON, as PostgreSQL documents it."""
    if isinstance(part, dict):
        return isinstance(whole, Mapping) and all(
            key in whole and contains(whole[key], value) for key, value in part.items()
        )
    if isinstance(part, list):
        return isinstance(whole, list) and all(
            any(contains(item, value) for item in whole) for value in part
        )
    if isinstance(part, bool) or isinstance(whole, bool):
        return part is whole
    return not isinstance(whole, dict | list) and bool(part == whole)


@st.composite
def filters(draw: Any) -> dict[str, Any]:
    def maybe(*values: Any) -> Any:
        return draw(st.sampled_from([None, None, *values]))

    wanted = {
        "user": maybe(*USERS),
        "action": maybe(*ACTIONS, "never"),
        "resource_type": maybe(*TYPES),
        "resource_id": maybe("r0", "r7", "r99"),
        "producer": maybe(*PRODUCERS),
        "category": draw(st.sampled_from(list(CATEGORIES))),
        "details": maybe(*DETAILS),
    }
    day = st.integers(-5, 230)
    start, end = sorted((draw(day), draw(day)))
    wanted["start_date"] = maybe(FIRST + timedelta(days=start))
    wanted["end_date"] = maybe(FIRST + timedelta(days=end, seconds=1))
    return {name: value for name, value in wanted.items() if value is not None}


def matching(entries: list[PastEntry], wanted: Mapping[str, Any]) -> list[int]:
    """Return the positions of the entries that match, oldest first."""
    plain = ("user", "action", "resource_type", "resource_id", "producer")
    return [
        entry.leaf_index
        for entry in entries
        if all(getattr(entry, name) == wanted[name] for name in plain if name in wanted)
        and entry.category in CATEGORIES[wanted["category"]]
        and ("start_date" not in wanted or entry.created_at >= wanted["start_date"])
        and ("end_date" not in wanted or entry.created_at < wanted["end_date"])
        and contains(entry.details, wanted.get("details", {}))
    ]


def message(wanted: Mapping[str, Any]) -> pb.AuditLogFilter:
    made = pb.AuditLogFilter()
    for name, value in wanted.items():
        if name == "details":
            made.details.update(value)
        elif name.endswith("_date"):
            getattr(made, name).FromDatetime(value)
        else:
            setattr(made, name, value)
    return made


async def listed(past: Past, request: pb.ListAuditLogsRequest) -> list[int]:
    """Return the positions on all pages, without what the reads themselves left."""
    found: list[int] = []
    limit = min(request.page_size or 100, 1000)
    while True:
        page = await past.audit.stub.ListAuditLogs(request, metadata=as_("lead1"))
        assert len(page.audit_logs) <= limit
        found += [one.leaf_index for one in page.audit_logs]
        request.page_token = page.next_page_token
        if not page.next_page_token:
            return [leaf for leaf in found if leaf < SIZE]


# Lower than those of the product, so that a small ledger meets every way to search.
LIMITS: dict[str, dict[str, Any]] = {
    "roomy": {},
    "tight": {"FIRST": 6, "FEW": 5, "STEP": 9, "FAR": 20, "EXAMINED": 40, "MONTHS": (1, 2, 4)},
    "probing": {"FIRST": 3, "FEW": 30, "FAR": 4, "STEP": 11},
    "late": {"FIRST": 6, "FEW": 9, "STEP": 7, "FAR": 8, "SECONDS": -1.0},
}


@pytest.fixture(params=LIMITS)
def limits(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of limits that are in force."""
    for name, value in LIMITS[request.param].items():
        monkeypatch.setattr(searching, name, value)
    return str(request.param)


@pytest.mark.usefixtures("limits")
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(wanted=filters(), size=st.sampled_from([1, 7, 30, 0, 2_000]), oldest_first=st.booleans())
async def test_pages_of_any_filter_have_what_matches_once_and_in_order(
    past: Past,
    wanted: dict[str, Any],
    size: int,
    oldest_first: bool,  # noqa: FBT001  (drawn)
) -> None:
    expected = matching(past.entries, wanted)
    # Not hundreds of pages of one entry.
    size = 30 if len(expected) > 10 * (size or 100) else size
    request = pb.ListAuditLogsRequest(
        filter=message(wanted), page_size=size, oldest_first=oldest_first
    )
    assert await listed(past, request) == (expected if oldest_first else expected[::-1])


@pytest.fixture
def counted_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no total estimated because a machine counts slowly."""
    monkeypatch.setattr("services.audit.reading.entries.COUNTING_MS", 30_000)


@pytest.mark.usefixtures("counted_to_the_end")
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(wanted=filters())
async def test_totals_and_exports_agree_with_lists(whole: Past, wanted: dict[str, Any]) -> None:
    expected = matching(whole.entries, wanted)
    request = pb.ListAuditLogsRequest(filter=message(wanted), page_size=1, include_total=True)
    page = await whole.audit.stub.ListAuditLogs(request, metadata=as_("lead1"))
    if "access" not in CATEGORIES[wanted["category"]]:  # what reads leave is of that category
        assert (page.total, page.total_is_estimate) == (len(expected), False)
    export = pb.ExportAuditLogsRequest(filter=message(wanted))
    data = b""
    async for chunk in whole.audit.stub.ExportAuditLogs(export, metadata=as_("lead1")):
        data += chunk.data
    ids = [line.split(",")[0] for line in data.decode().splitlines()[1:]]
    by_leaf = {entry.leaf_index: str(entry.id) for entry in whole.entries}
    assert [one for one in ids if one in by_leaf.values()] == [by_leaf[leaf] for leaf in expected]


async def test_details_are_compared_as_numbers_whatever_their_spelling(audit: Service) -> None:
    await audit.log(event(1, details=struct(n=1)), event(2, details=struct(n=1.5)))
    for number, found in ((1.0, [0]), (1.5, [1]), (2, [])):
        request = pb.ListAuditLogsRequest(filter=pb.AuditLogFilter(details=struct(n=number)))
        page = await audit.stub.ListAuditLogs(request, metadata=as_("lead1"))
        assert [one.leaf_index for one in page.audit_logs] == found


async def test_wanted_details_may_be_empty_and_may_not_be_anything(audit: Service) -> None:
    await audit.log(event(1, details=struct(password="secret")))

    async def refused(**details: Any) -> Any:
        request = pb.ListAuditLogsRequest(filter=pb.AuditLogFilter(details=struct(**details)))
        error = await refusal(audit.stub.ListAuditLogs(request, metadata=as_("lead1")))
        assert error.reason == "VALIDATION_FAILED"
        return error.fields

    async def found(details: Struct) -> int:
        request = pb.ListAuditLogsRequest(filter=pb.AuditLogFilter(details=details))
        return len((await audit.stub.ListAuditLogs(request, metadata=as_("lead1"))).audit_logs)

    assert await found(struct()) == 1
    # A secret was never stored, so it cannot be searched for; that there was one can.
    assert await found(struct(password="secret")) == 0
    assert await found(struct(password="[masked]")) == 1
    deep: dict[str, Any] = {}
    for _ in range(18):
        deep = {"a": deep}
    assert await found(struct(a=deep)) == 0
    (violation,) = await refused(a="x" * 4_096)
    assert violation.field == "filter.details"
    assert [one.field for one in await refused(n=2.0**60)] == ["filter.details"]
    assert (await refused(a={"a": deep}))[0].field.startswith("filter.details")


async def test_a_token_is_bound_to_wanted_details(past: Past) -> None:
    wanted = pb.AuditLogFilter(details=struct(environment="prod"))
    request = pb.ListAuditLogsRequest(filter=wanted, page_size=1)
    page = await past.audit.stub.ListAuditLogs(request, metadata=as_("lead1"))
    assert page.next_page_token
    request.page_token = page.next_page_token
    for changed in (struct(environment="staging"), struct()):
        request.filter.details.CopyFrom(changed)
        error = await refusal(past.audit.stub.ListAuditLogs(request, metadata=as_("lead1")))
        assert error.reason == "PAGE_TOKEN_INVALID"
    request.filter.category = pb.AUDIT_CATEGORY_ALL
    request.filter.details.CopyFrom(struct(environment="prod"))
    error = await refusal(past.audit.stub.ListAuditLogs(request, metadata=as_("lead1")))
    assert error.reason == "PAGE_TOKEN_INVALID"
