"""How long a page is when there is more than one page can hold."""

import pytest
import pytest_asyncio
from release_manager.audit.v1 import audit_pb2

from tests.rpc.manners.test_pages import LARGEST, LISTS, entries, page
from tests.support.every_rpc import EveryRpc
from tests.support.manners import subject
from tests.support.many_rows import EVERYWHERE, MANY, multiply
from tests.support.platform import AUDIT, product_methods
from tests.support.things_made import event

pytestmark = pytest.mark.asyncio(loop_scope="session")

DEFAULT, MOST = 50, 1_000
# The ledger is read by programs, and in larger pieces.
DEFAULTS = {f"/{AUDIT}/ListAuditLogs": 100}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def crowded(rpcs: EveryRpc) -> EveryRpc:
    """Give the product with more than a thousand rows in every list."""
    about = {
        method.rpartition("/")[2]: getattr(rpcs.requests[method], field.name)
        for method in LISTS
        if method in rpcs.requests and (field := subject(product_methods()[method]))
    }
    for copies in EVERYWHERE:
        await multiply(rpcs.platform.database_url, copies, about)
    events = [event() for _ in range(MANY)]
    for some in (events[:MOST], events[MOST:]):
        request = audit_pb2.LogActionsRequest(events=some)
        await rpcs.platform.audit.LogActions(request, metadata=rpcs.writer)
    return rpcs


@pytest.mark.parametrize("method", LISTS)
async def test_a_page_has_a_size_when_none_is_asked_for(crowded: EveryRpc, method: str) -> None:
    answer = await page(crowded, method, crowded.request(method, page_size=0))
    assert len(entries(answer)) == DEFAULTS.get(method, DEFAULT)
    assert answer.next_page_token


@pytest.mark.parametrize("method", LISTS)
async def test_a_page_has_at_most_a_thousand_entries(crowded: EveryRpc, method: str) -> None:
    for size in (MOST, MOST + 1, LARGEST):
        answer = await page(crowded, method, crowded.request(method, page_size=size))
        assert len(entries(answer)) == MOST
        assert answer.next_page_token
