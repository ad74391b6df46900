"""Watching when something breaks: replicas, lost connections, restarts, readers who do not read."""

import asyncio
import os
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import UUID

import pytest
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import deployment_pb2_grpc

from services.deployment.watching import feed
from shared.db.embedded import EmbeddedPostgres
from shared.errors import ServerStopping
from shared.rpc import permission
from tests.support.deployments import World, running_world
from tests.support.platform import dial
from tests.support.polling import eventually
from tests.support.watching import replica
from tests.support.watching import watching as watch

pytestmark = pytest.mark.asyncio(loop_scope="session")

LISTENERS = (
    "SELECT pid FROM pg_stat_activity"
    " WHERE datname = current_database() AND application_name = 'deployment'"
    " AND state = 'idle' AND query ~ '^(LISTEN|SELECT 1$)'"
)
NEVER_S = 3_600.0
STALLED = 5
CHANGES = 60
LARGE = 200_000


async def test_a_change_through_one_replica_is_seen_on_the_other(
    own_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By notifications alone: no look of every few seconds will find any of them.
    monkeypatch.setattr(feed, "LOOK_EVERY_S", NEVER_S)
    release = await own_world.release("shared@1.0.0")
    async with (
        replica(own_world, tmp_path) as other,
        watch(own_world, stub=other.stub, service="shared") as watcher,
    ):
        made = await own_world.create(release, "Dev")
        await watcher.sees(made)
        started = await own_world.start(made.id)
        await watcher.sees(started)


async def test_all_who_watch_cost_one_listening_connection(own_world: World) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(30):
            await stack.enter_async_context(watch(own_world))
        await the_listener(own_world)


async def the_listener(world: World) -> int:
    """Wait until just one connection listens, as seen when it is idle, and return it."""

    async def one() -> int | None:
        found = await world.database.fetch(LISTENERS)
        return found[0]["pid"] if len(found) == 1 else None

    return await eventually(one, 20)


async def test_nothing_is_stale_after_the_listening_connection_was_killed(
    own_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes made while nobody listens come with the next look, which the reconnect makes."""
    monkeypatch.setattr(feed, "LOOK_EVERY_S", NEVER_S)
    release = await own_world.release("cut@1.0.0")
    async with watch(own_world, service="cut") as watcher:
        for _ in range(3):
            listener = await the_listener(own_world)
            await own_world.database.execute("SELECT pg_terminate_backend($1)", listener)
            made = await own_world.create(release, "Dev")
            await watcher.sees(made)
            request = pb.CancelDeploymentRequest(deployment=made.id, reason="not now")
            ended = await own_world.call("dev1", "CancelDeployment", request)
            await watcher.sees(ended.deployment)


async def test_a_restart_of_postgresql_leaves_nothing_stale(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The stream stays, unless nobody can say for long who its caller is."""
    monkeypatch.setattr(permission, "UNCONFIRMED_S", 60.0)
    with tempfile.TemporaryDirectory(prefix="rm-watch-") as parent:
        directory = Path(parent)
        with EmbeddedPostgres(directory / "data") as postgres:
            url = postgres.url()
            await asyncio.to_thread(migrate, url)
        async with AsyncExitStack() as stack:
            first = stack.enter_context(EmbeddedPostgres(directory / "data"))
            assert first.url() == url
            world = await stack.enter_async_context(running_world(url, directory))
            made = await world.create(await world.release("again@1.0.0"), "Dev")
            watcher = await stack.enter_async_context(watch(world, service="again"))
            await asyncio.to_thread(first.__exit__, None, None, None)
            await asyncio.to_thread(first.start)
            started = await when_back(world, made)
            await watcher.sees(started)


def migrate(url: str) -> None:
    command = [sys.executable, "-m", "alembic", "upgrade", "head"]
    subprocess.run(command, env=os.environ | {"DATABASE_URL": url}, check=True, capture_output=True)


async def when_back(world: World, made: pb.Deployment) -> pb.Deployment:
    """Start a deployment as soon as the database lets itself be asked."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await world.start(made.id)
            except Exception:  # noqa: BLE001  (the service tells in several ways that it is away)
                await asyncio.sleep(0.1)


async def test_who_does_not_read_delays_nobody_and_gets_the_newest_state(
    own_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything together is more than what fits on the way to readers who have stopped."""
    monkeypatch.setattr(feed, "LOOK_EVERY_S", NEVER_S)
    made = [
        await own_world.create(await own_world.release(f"slow{number}@1.0.0"), "Dev")
        for number in range(3)
    ]
    async with AsyncExitStack() as stack:
        served = await stack.enter_async_context(replica(own_world, tmp_path))
        stalled = []
        for _ in range(STALLED):  # each on a connection of its own, which is what fills up
            channel = await stack.enter_async_context(dial(served.server.address))
            stub = deployment_pb2_grpc.DeploymentServiceStub(channel)
            stalled.append(await stack.enter_async_context(watch(own_world, stub=stub)))
        reader = await stack.enter_async_context(watch(own_world, stub=served.stub))
        for number in range(CHANGES):
            for deployment in made:
                deployment.etag = str(int(deployment.etag) + 1)
                await changed(own_world, deployment.id, number)
                await reader.sees(deployment)
        # The reader has seen every change while the others have not read one.
        for watcher in stalled:
            assert {watcher.version(deployment.id) for deployment in made} == {1}
            for deployment in made:
                await watcher.sees(deployment)
                newest = watcher.states[deployment.id].status_reason
                assert newest.startswith(f"{CHANGES - 1} ")
            assert sum(map(len, watcher.etags.values())) < CHANGES * len(made) / 2


async def changed(world: World, deployment_id: str, number: int) -> None:
    """Change a deployment as the owner of the database, and notify as a change does."""
    async with world.database.acquire() as connection, connection.transaction():
        await connection.execute(
            "UPDATE deployments SET status_reason = $2, row_version = row_version + 1"
            " WHERE id = $1",
            UUID(deployment_id),
            f"{number} " + "x" * LARGE,
        )
        await connection.execute("SELECT pg_notify('deployments_changed', $1)", deployment_id)


async def test_a_stopping_server_ends_the_stream_so_that_it_can_be_resumed(
    own_world: World, tmp_path: Path
) -> None:
    release = await own_world.release("drained@1.0.0")
    async with (
        replica(own_world, tmp_path) as other,
        watch(own_world, stub=other.stub, service="drained") as watcher,
    ):
        ending = asyncio.create_task(watcher.end())
        await other.server.stop()
        assert isinstance(await ending, ServerStopping)
    made = await own_world.create(release, "Dev")
    ended = await own_world.call(
        "dev1", "CancelDeployment", pb.CancelDeploymentRequest(deployment=made.id, reason="no")
    )
    async with watch(own_world, service="drained", changed_since=watcher.as_of) as again:
        assert again.version(made.id) == int(ended.deployment.etag)
