"""Followers of the ledger: a stream, what it has brought, and what is true of every message."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from release_manager.audit.v1 import audit_pb2 as pb

from tests.rpc.audit.conftest import Service, as_, refusal

WAIT_S = 15


@dataclass
class Follower:
    """A stream, and what it has brought."""

    call: Any
    entries: list[pb.AuditLog] = field(default_factory=list)
    checkpoints: list[pb.Checkpoint] = field(default_factory=list)
    next_index: int = -1
    largest: int = 0

    async def read(self) -> pb.FollowAuditLogsResponse:
        """Take one message, and check what is true of each."""
        message: pb.FollowAuditLogsResponse = await asyncio.wait_for(self.call.read(), WAIT_S)
        assert message.next_index >= self.next_index
        for entry in message.audit_logs:
            assert max(self.next_index, 0) <= entry.leaf_index < message.next_index
            assert not self.entries or entry.leaf_index > self.entries[-1].leaf_index
            self.entries.append(entry)
        if message.HasField("checkpoint"):
            assert message.checkpoint.tree_size <= message.next_index
            self.checkpoints.append(message.checkpoint)
        self.next_index = message.next_index
        self.largest = max(self.largest, len(message.audit_logs))
        return message

    async def until(self, next_index: int) -> Sequence[pb.AuditLog]:
        """Read until the stream has looked at everything before a position."""
        while self.next_index < next_index:
            await self.read()
        return self.entries

    async def refused(self) -> str:
        """Read to the end, and return the reason of it."""

        async def read() -> None:
            while await asyncio.wait_for(self.call.read(), WAIT_S):
                pass

        return (await refusal(read())).reason


@asynccontextmanager
async def follow(audit: Service, by: str = "lead1", **asked: Any) -> AsyncIterator[Follower]:
    """Follow, and read the first message, which says where the stream begins."""
    call = audit.stub.FollowAuditLogs(pb.FollowAuditLogsRequest(**asked), metadata=as_(by))
    follower = Follower(call)
    await follower.read()
    try:
        yield follower
    finally:
        call.cancel()


async def size(audit: Service) -> int:
    """Return how many entries the ledger has."""
    return int(await audit.owner.fetchval("SELECT next_index FROM audit_log_head"))


def numbers(entries: Sequence[pb.AuditLog]) -> list[int]:
    """Return the numbers that the entries were made with."""
    return [int(entry.resource_id.removeprefix("d-")) for entry in entries]
