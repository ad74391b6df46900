"""That every list can be walked through page by page, whatever the size of the pages."""

from typing import Any

import pytest
from google.protobuf.message import Message

from shared.errors import ValidationFailed
from tests.support.corpus import Code
from tests.support.every_rpc import EveryRpc, answered, changed_request
from tests.support.manners import methods_that
from tests.support.platform import AUDIT

pytestmark = pytest.mark.asyncio(loop_scope="session")

LISTS = methods_that("page_token")
LARGEST = 2**31 - 1


def whole(rpcs: EveryRpc, method: str, **changes: object) -> Any:
    """Return the request of a whole list; of the ledger, of a part that does not grow meanwhile."""
    request = rpcs.request(method, **changes)
    if method.startswith(f"/{AUDIT}/"):
        request.filter.action = "approve"
    return request


async def page(rpcs: EveryRpc, method: str, request: Message) -> Any:
    """Return one page of a list."""
    return answered(method, await rpcs.ask(method, request))


def entries(answer: Any) -> list[bytes]:
    """Return the entries of a page."""
    found = getattr(answer, answer.DESCRIPTOR.fields[0].name)
    return [entry.SerializeToString(deterministic=True) for entry in found]


async def walked(rpcs: EveryRpc, method: str, request: Message) -> list[list[bytes]]:
    """Return the pages of a list, one after the other."""
    pages, seen = [], set()
    while True:
        answer = await page(rpcs, method, request)
        pages.append(entries(answer))
        if not answer.next_page_token:
            return pages
        assert answer.next_page_token not in seen
        seen.add(answer.next_page_token)
        request = changed_request(request, page_token=answer.next_page_token)


@pytest.mark.parametrize("method", LISTS)
async def test_pages_of_one_are_the_whole_in_its_order(rpcs: EveryRpc, method: str) -> None:
    """Nothing is repeated or left out, and the token is empty only at the end."""
    [every] = await walked(rpcs, method, whole(rpcs, method, page_size=1_000))
    assert len(every) > 1
    assert len(set(every)) == len(every)
    assert await walked(rpcs, method, whole(rpcs, method, page_size=1)) == [[one] for one in every]


@pytest.mark.parametrize("method", LISTS)
async def test_a_page_may_be_of_another_size_than_the_one_before(
    rpcs: EveryRpc, method: str
) -> None:
    [every] = await walked(rpcs, method, whole(rpcs, method, page_size=1_000))
    first = await page(rpcs, method, whole(rpcs, method, page_size=1))
    rest = whole(rpcs, method, page_size=len(every) - 1, page_token=first.next_page_token)
    last = await page(rpcs, method, rest)
    assert entries(first) + entries(last) == every
    assert last.next_page_token == ""


@pytest.mark.parametrize("method", LISTS)
async def test_no_size_is_too_large_and_none_is_negative(rpcs: EveryRpc, method: str) -> None:
    [every] = await walked(rpcs, method, whole(rpcs, method, page_size=1_000))
    for size in (1_001, LARGEST):
        assert await walked(rpcs, method, whole(rpcs, method, page_size=size)) == [every]
    for size in (-1, -LARGEST - 1):
        answer = await rpcs.ask(method, whole(rpcs, method, page_size=size))
        refused = (answer.code, answer.reason, answer.fields)
        assert refused == (Code.INVALID_ARGUMENT, ValidationFailed.reason, ["page_size"])
