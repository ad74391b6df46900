"""Lists: whole and in order page by page, filtered, and with tokens that serve nothing else."""

from typing import Any
from uuid import uuid4

import pytest
from release_manager.catalog.v1 import catalog_pb2 as pb
from release_manager.common.v1 import access_pb2
from release_manager.identity.v1 import identity_pb2 as identity

from shared.errors import PageTokenInvalid, ResourceNotFound
from tests.rpc.catalog.conftest import refusal
from tests.support.platform import Platform
from tests.support.programs import execute

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def listed(platform: Platform, request: Any, by: str = "viewer1") -> Any:
    """Return one page."""
    name = type(request).DESCRIPTOR.name.removesuffix("Request")
    service = platform.identity if hasattr(platform.identity, name) else platform.catalog
    return await getattr(service, name)(request, metadata=await platform.person(by))


def content(answer: Any) -> list[Any]:
    """Return the entries of a page, whatever they are."""
    field = answer.DESCRIPTOR.fields[0].name
    return list(getattr(answer, field))


async def all_of(platform: Platform, request: Any, by: str = "viewer1") -> list[Any]:
    """Return everything, in one page."""
    answer = await listed(platform, request, by)
    assert answer.next_page_token == ""
    return content(answer)


LISTS: dict[str, tuple[Any, str | None, int]] = {
    "teams": (pb.ListTeamsRequest(), "name", 3),
    "services": (pb.ListServicesRequest(), "name", 5),
    "environments": (pb.ListEnvironmentsRequest(), "promotion_order", 3),
    "releases": (pb.ListReleasesRequest(), None, 10),
    "runbooks": (pb.ListRunbooksRequest(), "title", 3),
    "users": (identity.ListUsersRequest(kind=identity.USER_KIND_PERSON), "username", 8),
}


@pytest.mark.parametrize("name", LISTS)
async def test_the_pages_together_are_the_whole_in_order(platform: Platform, name: str) -> None:
    request, key, count = LISTS[name]
    whole = await all_of(platform, request)
    assert len(whole) == count
    if key is not None:
        keys = [getattr(entry, key) for entry in whole]
        assert keys == sorted(keys, key=lambda k: k.lower() if isinstance(k, str) else k)
    for size in (1, 2, count):
        seen: list[Any] = []
        page = type(request)(page_size=size)
        page.MergeFrom(request)
        while True:
            answer = await listed(platform, page)
            assert len(content(answer)) <= size
            seen += content(answer)
            if not answer.next_page_token:
                break
            page.page_token = answer.next_page_token
        assert seen == whole


async def test_releases_come_newest_first(platform: Platform) -> None:
    moments = [
        entry.created_at.ToNanoseconds()
        for entry in await all_of(platform, pb.ListReleasesRequest())
    ]
    assert moments == sorted(moments, reverse=True)


async def test_rows_of_the_same_moment_are_neither_lost_nor_doubled(platform: Platform) -> None:
    moment = "UPDATE releases SET created_at = now() WHERE service_id = $1"
    service = (await all_of(platform, pb.ListServicesRequest()))[3]
    await execute(platform.database_url, moment, service.id)
    whole = await all_of(platform, pb.ListReleasesRequest())
    seen, token = [], ""
    for _ in range(len(whole)):
        answer = await listed(platform, pb.ListReleasesRequest(page_size=1, page_token=token))
        seen += content(answer)
        token = answer.next_page_token
    assert (seen, token) == (whole, "")


FILTERS: dict[str, tuple[Any, str, list[str]]] = {
    "team": (pb.ListServicesRequest(team="frontend"), "name", ["dashboard"]),
    "owner": (pb.ListServicesRequest(owner="lead1"), "name", ["gateway"]),
    "tier": (
        pb.ListServicesRequest(tier=pb.SERVICE_TIER_1),
        "name",
        ["auth", "gateway", "payment"],
    ),
    "lifecycle": (
        pb.ListServicesRequest(lifecycle=pb.SERVICE_LIFECYCLE_EXPERIMENTAL),
        "name",
        ["notification"],
    ),
    "both": (pb.ListServicesRequest(team="Backend", owner="lead1"), "name", []),
    "type": (pb.ListEnvironmentsRequest(type=pb.ENVIRONMENT_TYPE_PROD), "name", ["Prod"]),
    "service": (
        pb.ListReleasesRequest(service="auth"),
        "name",
        ["auth@2.4.0-rc.1", "auth@2.3.0"],
    ),
    "status": (
        pb.ListReleasesRequest(status=pb.RELEASE_STATUS_ROLLED_BACK),
        "version",
        ["1.2.0", "1.1.0"],
    ),
    "tag": (pb.ListRunbooksRequest(tag="tls"), "title", ["Certificate expires"]),
    "place": (pb.ListRunbooksRequest(environment="dev"), "title", ["Charges are stuck"]),
    "runbooks of a service": (pb.ListRunbooksRequest(service="auth"), "title", ["Log-ins fail"]),
    "role": (identity.ListUsersRequest(role=access_pb2.ROLE_LEAD), "username", ["lead1", "lead2"]),
    "users of a team": (
        identity.ListUsersRequest(team="FRONTEND"),
        "username",
        ["dev3", "viewer2"],
    ),
    "inactive": (identity.ListUsersRequest(active=False), "username", []),
}


@pytest.mark.parametrize("name", FILTERS)
async def test_a_filter_leaves_what_it_names(platform: Platform, name: str) -> None:
    request, key, expected = FILTERS[name]
    assert [getattr(entry, key) for entry in await all_of(platform, request)] == expected


async def test_runbooks_in_lists_are_without_content(platform: Platform) -> None:
    whole = await all_of(platform, pb.ListRunbooksRequest())
    assert {entry.content for entry in whole} == {""}


async def test_a_filter_by_what_is_not_there_says_so(platform: Platform) -> None:
    for request in (
        pb.ListServicesRequest(team="nothing"),
        pb.ListServicesRequest(owner=str(uuid4())),
        pb.ListReleasesRequest(service="nothing"),
        pb.ListRunbooksRequest(environment="nothing"),
    ):
        assert isinstance(await refusal(listed(platform, request)), ResourceNotFound)


async def test_a_token_serves_its_own_list_filter_and_caller_only(platform: Platform) -> None:
    request = pb.ListServicesRequest(page_size=1, team="Backend")
    token = (await listed(platform, request)).next_page_token
    assert content(await listed(platform, pb.ListServicesRequest(team="Backend", page_token=token)))
    for other, by in (
        (pb.ListServicesRequest(page_token=token), "viewer1"),
        (pb.ListServicesRequest(page_token=token, team="backend"), "viewer1"),
        (pb.ListServicesRequest(page_token=token, team="Backend"), "viewer2"),
        (pb.ListServicesRequest(page_token=token[:-2] + "AA", team="Backend"), "viewer1"),
        (pb.ListTeamsRequest(page_token=token), "viewer1"),
        (pb.ListTeamsRequest(page_token="garbage"), "viewer1"),
    ):
        assert isinstance(await refusal(listed(platform, other, by)), PageTokenInvalid)
