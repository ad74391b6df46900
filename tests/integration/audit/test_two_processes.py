"""Two processes append to one ledger, one of them is killed, and clients repeat what they sent."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
from release_manager.audit.v1 import audit_pb2 as pb
from release_manager.audit.v1 import audit_pb2_grpc

from shared.identity.keys import ensure_keys
from shared.ids import new_id
from tests.integration.audit.conftest import World
from tests.support.database import PROJECT
from tests.support.machine import free_ports
from tests.support.programs import add_person, add_program

CLIENTS = 6
BATCHES = 40
PER_BATCH = 10
KILLED_AFTER = 60  # batches of all clients


@contextmanager
def service(database_url: str, keys: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run an audit service of its own process; it is killed at the end if it still runs."""
    environment = os.environ | {
        "DATABASE_URL": database_url,
        "RELEASE_MANAGER_KEY_DIR": str(keys),
        "AUDIT_ADDRESS": f"127.0.0.1:{port}",
        "LOG_LEVEL": "error",
    }
    command = [sys.executable, "-m", "services.audit"]
    with subprocess.Popen(command, cwd=PROJECT, env=environment) as process:
        try:
            yield process
        finally:
            process.kill()


# CANCELLED is what gRPC itself answers to a call whose server goes away at that moment;
# DEADLINE_EXCEEDED comes of a machine that is busy, and the call is repeated as after the others.
PASSING = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
    }
)


@pytest.mark.timeout(300)
async def test_every_event_once_in_one_dense_order(world: World, tmp_path: Path) -> None:
    ensure_keys(tmp_path)
    await add_person(world.url, "admin", "admin")
    program = await add_program(world.url, "two-processes", "viewer", ("audit.write",))
    metadata = (("authorization", f"Bearer {program.token}"),)
    ports = free_ports(2)
    sent = acknowledged = 0
    with service(world.url, tmp_path, ports[0]) as first, service(world.url, tmp_path, ports[1]):
        channels = [grpc.aio.insecure_channel(f"127.0.0.1:{port}") for port in ports]
        async with asyncio.timeout(60):
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
        stubs = [audit_pb2_grpc.AuditServiceStub(channel) for channel in channels]

        async def client(number: int) -> None:
            nonlocal sent, acknowledged
            for batch in range(BATCHES):
                events = [
                    pb.AuditEvent(
                        event_id=str(new_id()),
                        action="deploy",
                        resource_type="deployment",
                        resource_id=f"{number}/{batch}/{place}",
                        aggregate=f"client:{number}",
                        aggregate_seq=batch * PER_BATCH + place + 1,
                    )
                    for place in range(PER_BATCH)
                ]
                sent += 1
                if sent == KILLED_AFTER:
                    first.send_signal(signal.SIGKILL)
                await log(number + batch, events)
                acknowledged += len(events)

        async def log(start: int, events: list[pb.AuditEvent]) -> None:
            """Send to one of the two, then to the other, until one has answered."""
            request = pb.LogActionsRequest(events=events)
            for attempt in range(20):
                stub = stubs[(start + attempt) % 2]
                try:
                    answer = await stub.LogActions(request, metadata=metadata, timeout=20)
                except grpc.aio.AioRpcError as failure:
                    if failure.code() not in PASSING:
                        raise
                    await asyncio.sleep(0.1)
                    continue
                assert {result.outcome for result in answer.results} <= {
                    pb.APPEND_OUTCOME_APPENDED,
                    pb.APPEND_OUTCOME_DUPLICATE,
                }
                return
            raise AssertionError(start)

        await asyncio.gather(*(client(number) for number in range(CLIENTS)))
        for channel in channels:
            await channel.close()
        assert first.wait(5) == -signal.SIGKILL
    rows = await world.rows()
    assert len(rows) == acknowledged == CLIENTS * BATCHES * PER_BATCH
    assert [row["leaf_index"] for row in rows] == list(range(len(rows)))
    assert len({row["event_id"] for row in rows}) == len(rows)
    moments = [row["created_at"] for row in rows]
    assert moments == sorted(moments)
    for number in range(CLIENTS):
        mine = [row["aggregate_seq"] for row in rows if row["aggregate"] == f"client:{number}"]
        assert mine == list(range(1, BATCHES * PER_BATCH + 1))
