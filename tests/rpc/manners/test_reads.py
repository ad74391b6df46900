"""That what only reads does only that."""

import pytest

from tests.support.every_rpc import EveryRpc, answered
from tests.support.manners import only_reads
from tests.support.platform import product_methods
from tests.support.rows import changed, contents

pytestmark = pytest.mark.asyncio(loop_scope="session")

READS = [name for name, method in product_methods().items() if only_reads(method)]


@pytest.mark.parametrize("method", READS)
async def test_a_read_changes_nothing(rpcs: EveryRpc, method: str) -> None:
    """Who reads the ledger is written there, as an entry about access and not about a change."""
    url = rpcs.platform.database_url
    before = await contents(url)
    for _ in range(2):
        answered(method, await rpcs.ask(method, rpcs.requests[method]))
    assert changed(before, await contents(url)) == {}
