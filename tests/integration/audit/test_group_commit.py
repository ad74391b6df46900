"""The queue before the ledger: full, ending, and before a database that has gone silent."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
from sqlalchemy import make_url

from services.audit.appending import group_commit
from services.audit.appending.group_commit import CAPACITY, GroupCommit
from services.audit.rules.events import Event, Sealed, seal
from services.audit.store import appending
from services.audit.store.appending import Placed
from shared.clock import system_clock
from shared.db import engine
from shared.db.engine import Database
from shared.errors import AppendQueueFull, DatabaseUnavailable, ServerStopping
from shared.ids import new_id
from tests.integration.audit.conftest import SECRET, World
from tests.support.polling import eventually

# Whether somebody waits for a lock of this connection.
WAITED_FOR = """
    SELECT count(*) > 0 FROM pg_locks
    WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))
"""


def sealed(count: int = 1) -> list[Sealed]:
    return [
        seal(
            Event("deploy", "deployment", f"d-{number}", event_id=new_id()),
            producer="deployment",
            user_id=None,
            now=system_clock(),
            mac_key=SECRET,
        )
        for number in range(count)
    ]


async def test_who_comes_at_the_very_end_is_served_or_refused(world: World) -> None:
    """Whatever moment the end has: while a batch commits, and while its connection goes back."""
    for moment in range(60):
        queue = GroupCommit(world.writer)
        queue.start()
        await queue.append(sealed())
        for _ in range(moment):
            await asyncio.sleep(0)
        last = asyncio.create_task(queue.append(sealed()))
        await asyncio.sleep(0)
        async with asyncio.timeout(60):
            await queue.stop()
            await last
        with pytest.raises(ServerStopping):
            await queue.append(sealed())
    assert len(await world.rows()) == 120


async def test_a_full_queue_refuses_at_once_and_has_room_again(world: World) -> None:
    events = sealed(1_000)
    async with world.owner.transaction():
        await world.owner.execute("SELECT FROM audit_log_head FOR UPDATE")
        first = asyncio.create_task(world.queue.append(sealed()))
        # It waits for the head; what follows queues behind it.
        await eventually(lambda: world.owner.fetchval(WAITED_FOR))
        waiting = [
            asyncio.create_task(world.queue.append(events[: min(1_000, CAPACITY - start)]))
            for start in range(0, CAPACITY, 1_000)
        ]
        await asyncio.sleep(0)
        with pytest.raises(AppendQueueFull) as refused:
            await world.queue.append(sealed())
        assert refused.value.retry_after == group_commit.RETRY_AFTER
        waiting[-1].cancel()
        await asyncio.sleep(0)
        assert not first.done()
    await first
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(done.pop(), asyncio.CancelledError)
    assert all(isinstance(outcomes, Sequence) for outcomes in done)
    assert len(await world.rows()) == 1_001
    (outcome,) = await world.queue.append(sealed())
    assert isinstance(outcome, Placed)
    assert outcome.outcome == "appended"


class Wire:
    """A wire between the service and PostgreSQL that can go silent without an end."""

    def __init__(self, socket_path: str) -> None:
        """Lead to a socket in the file system."""
        self._path = socket_path
        self._open = asyncio.Event()
        self._open.set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        there, back = await asyncio.open_unix_connection(self._path)
        await asyncio.gather(self._carry(reader, back), self._carry(there, writer))

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65_536):
                await self._open.wait()
                writer.write(data)
        finally:
            writer.close()

    def silence(self) -> None:
        """Carry nothing any more."""
        self._open.clear()

    def speak(self) -> None:
        """Carry what has been held back, and all that follows."""
        self._open.set()


@asynccontextmanager
async def wired(database_url: str) -> AsyncIterator[tuple[Wire, str]]:
    url = make_url(database_url)
    wire = Wire(f"{url.query['host']}/.s.PGSQL.{url.query.get('port', 5432)}")
    server = await asyncio.start_server(wire.connected, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    through = url.set(host="127.0.0.1", port=port, query={})
    yield wire, through.render_as_string(hide_password=False)
    wire.speak()
    server.close()


async def test_a_silent_database_ends_no_wait_and_no_service(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The time-outs of the product, only sooner.
    monkeypatch.setattr(engine, "COMMAND_TIMEOUT_S", 1.5)
    monkeypatch.setattr(engine, "CONNECT_TIMEOUT_S", 1.5)
    async with wired(world.url) as (wire, url):
        writer = Database(url, role="rm_audit_writer", application_name="wired")
        queue = GroupCommit(writer)
        queue.start()
        await queue.append(sealed())
        wire.silence()
        async with asyncio.timeout(60):
            with pytest.raises(DatabaseUnavailable):
                await queue.append(sealed())
        wire.speak()
        await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            await queue.append(sealed())
        wire.silence()
        waiting = asyncio.create_task(queue.append(sealed()))
        await asyncio.sleep(0.05)
        async with asyncio.timeout(60):
            await queue.stop()
        with pytest.raises(DatabaseUnavailable):
            await waiting
        wire.speak()
        await writer.close()


async def test_calls_that_keep_coming_share_a_commit(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    append = appending.append

    async def counted(driver: object, events: Sequence[Sealed]) -> Sequence[Placed]:
        batches.append(len(events))
        return await append(driver, events)  # type: ignore[arg-type]

    monkeypatch.setattr(group_commit, "append", counted)

    async def arrive(turn: int) -> None:
        for _ in range(turn):
            await asyncio.sleep(0)
        await world.queue.append(sealed())

    await asyncio.gather(*(arrive(turn) for turn in range(20)))
    assert batches == [20]
