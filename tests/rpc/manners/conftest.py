"""The running product with a request for every RPC, one for each module."""

import pytest_asyncio

from tests.support.every_rpc import EveryRpc
from tests.support.platform import Platform


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rpcs(platform: Platform) -> EveryRpc:
    """Give the product with the things that valid requests are about."""
    return await EveryRpc.of(platform)
