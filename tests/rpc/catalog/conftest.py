"""The running product, for the RPCs of the catalog process."""

from collections.abc import AsyncIterator, Awaitable
from typing import Any

import asyncpg
import grpc
import pytest
import pytest_asyncio
from release_manager.audit.v1 import audit_pb2

from shared.domain_error import DomainError
from shared.rpc.status import from_rpc_error
from shared.setting_values import driver_url
from tests.support.platform import Platform
from tests.support.polling import eventually


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def owner(platform: Platform) -> AsyncIterator[Any]:
    connection = await asyncpg.connect(driver_url(platform.database_url))
    yield connection
    await connection.close()


async def refusal(call: Awaitable[Any]) -> DomainError:
    """Return the error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    error = from_rpc_error(raised.value)
    assert error is not None, raised.value
    return error


async def entries(platform: Platform, resource_type: str, resource_id: str) -> list[Any]:
    """Return the audit entries of a resource as a lead reads them, oldest first."""
    wanted = audit_pb2.AuditLogFilter(resource_type=resource_type, resource_id=resource_id)
    request = audit_pb2.ListAuditLogsRequest(filter=wanted, oldest_first=True)
    answer = await platform.audit.ListAuditLogs(request, metadata=await platform.person("lead1"))
    return list(answer.audit_logs)


async def recorded(owner: Any) -> None:
    """Wait until the ledger has what the services wrote: a refused call does not wait for that."""
    sent = "SELECT count(*) = 0 FROM outbox WHERE sent_at IS NULL"
    await eventually(lambda: owner.fetchval(sent), 30)
