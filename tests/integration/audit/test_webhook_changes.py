"""What somebody changes while a sender is at work, and what the ledger does meanwhile."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.audit.notifying.changing import Asked
from services.audit.notifying.notifier import FORGOTTEN_AT_ONCE, Notifier
from services.audit.notifying.reading import EntriesMissing
from services.audit.notifying.receivers import Message, Receivers
from services.audit.notifying.sender import Sender
from services.audit.rules.webhook_targets import Targets
from tests.integration.audit.conftest import World
from tests.integration.audit.webhook_bench import Bench, running_bench
from tests.support.receiver import Receiver, receiving

HOUR = timedelta(hours=1)
MESSAGE = Message("event", "kind", "/test", b"{}", (b"key",))
_OLD_DELIVERIES = """
    INSERT INTO webhook_deliveries (webhook_id, leaf_index, part, event_id, event_type, state,
        attempts, first_attempt_at, last_attempt_at)
    SELECT $1, n, 0, n::text, 'lock-created', 'delivered', 1, $2, $2 FROM generate_series(1, $3) n
"""


@pytest_asyncio.fixture
async def bench(world: World, tmp_path: Path) -> AsyncIterator[Bench]:
    """A ledger whose own producer is one of the product's services."""
    async with running_bench(world, tmp_path) as running:
        yield running


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes everything."""
    async with receiving() as running:
        yield running


async def change(bench: Bench, **values: Any) -> None:
    """Change the webhook."""
    await bench.webhooks.update("chat", "", values, Asked(), lambda _found: b"")


async def begin_again(bench: Bench, from_index: int) -> None:
    """Set the webhook to a position."""
    await bench.webhooks.begin_again("chat", "", from_index, Asked(), lambda _found: b"")


async def test_a_webhook_is_set_beyond_what_its_sender_saw_last(
    bench: Bench, receiver: Receiver
) -> None:
    webhook = await bench.webhook(receiver.url)
    await bench.happen(2)
    sender, seen = Sender(webhook, bench.sending), await bench.seen()
    await sender.step(seen)
    await bench.happen(5)
    await begin_again(bench, 8)
    await sender.step(seen)  # as a sender that is busy with what there was
    (row,) = await bench.row("webhooks")
    assert (row["paused"], row["paused_because"]) == (False, "")
    ids = await bench.happen(1)
    await bench.run(sender)
    assert [one.id for one in receiver.taken[1:]][-1:] == ids


async def test_what_was_passed_by_is_sent_when_somebody_goes_back_to_it(
    bench: Bench, receiver: Receiver
) -> None:
    webhook = await bench.webhook(receiver.url)
    await change(bench, event_types=["lock-created"])
    await bench.happen(1)
    sender = Sender(webhook, bench.sending)
    await sender.step(await bench.seen())
    ids = await bench.happen(2)
    await sender.step(await bench.seen())  # passes by, and writes it down only a second later
    (progress,) = await bench.row("webhook_progress")
    await change(bench, event_types=["deployment-started"])
    await begin_again(bench, progress["next_index"])
    await bench.sign()
    await bench.run(sender)
    assert [one.id for one in receiver.taken] == ids


@pytest.mark.parametrize("is_moved", [False, True], ids=["resumed", "moved"])
async def test_whoever_resumes_or_moves_a_webhook_has_it_tried_anew(
    bench: Bench, *, is_moved: bool
) -> None:
    async with receiving(lambda _number, _seen: 503) as there:
        webhook = await bench.webhook(there.url)
        await bench.happen(1)
        began, sender = bench.clock.now, Sender(webhook, bench.sending)
        while bench.clock.now < began + 20 * HOUR:
            pause = await sender.step(await bench.seen())
            bench.clock.now += timedelta(seconds=pause or 0)
        await sender.step(await bench.seen())
        attempts = len(there.received)
        if is_moved:
            await change(bench, url=there.url + "/new")
        else:
            await change(bench, paused=True)
            bench.clock.now += 240 * HOUR
            await change(bench, paused=False)
        pause = await Sender(webhook, bench.sending).step(await bench.seen())
        assert len(there.received) == attempts + 1  # at once, although the next was an hour away
        assert pause == 5
    (row,) = await bench.row("webhook_deliveries")
    assert (row["state"], row["attempts"]) == ("retrying", 1)
    assert "give_up" not in await bench.told()


@pytest.mark.parametrize("missing", [1, 2, 3], ids=["first", "middle", "last"])
async def test_entries_that_are_not_there_are_not_passed_over(
    bench: Bench, receiver: Receiver, missing: int
) -> None:
    webhook = await bench.webhook(receiver.url)
    await bench.happen(3)
    owner = bench.world.owner
    await owner.execute("ALTER TABLE audit_logs DISABLE TRIGGER USER")
    await owner.execute("DELETE FROM audit_logs WHERE leaf_index = $1", missing)
    with pytest.raises(EntriesMissing):
        await bench.run(Sender(webhook, bench.sending))
    (progress,) = await bench.row("webhook_progress")
    assert (progress["next_index"], receiver.received) == (1, [])


async def test_many_old_deliveries_go_without_long_pauses(bench: Bench) -> None:
    webhook, old = await bench.webhook("http://127.0.0.1:1/"), bench.clock.now
    number = FORGOTTEN_AT_ONCE * 2 + 1
    await bench.world.owner.execute(_OLD_DELIVERIES, webhook, old, number)
    notifier = Notifier(bench.sending, bench.watch)
    bench.clock.now += timedelta(days=8)
    for left in (FORGOTTEN_AT_ONCE + 1, 1, 0):
        await notifier._forget()  # noqa: SLF001  (what it does at each look)
        assert len(await bench.row("webhook_deliveries", "leaf_index")) == left


async def test_names_that_resolve_slowly_hinder_nobody_else(
    monkeypatch: pytest.MonkeyPatch, receiver: Receiver
) -> None:
    ended, resolve = threading.Event(), socket.getaddrinfo

    def slowly(host: str, *rest: Any) -> Any:
        if host.startswith("slow"):
            ended.wait(60)
        return resolve("127.0.0.1", *rest)

    monkeypatch.setattr(socket, "getaddrinfo", slowly)
    receivers = Receivers(Targets(frozenset({"quick.test"}), plain_http=True), 30.0)
    quick = receiver.url.replace("127.0.0.1", "quick.test")
    names = [quick.replace("quick", f"slow-{number}") for number in range(60)]
    now = datetime.now(UTC)
    try:
        slow = [asyncio.create_task(receivers.send(url, MESSAGE, now)) for url in names]
        await asyncio.sleep(0)
        answer = await receivers.send(quick, MESSAGE, now)
        assert (answer.status, answer.error) == (204, "")
        assert not any(task.done() for task in slow)
    finally:
        ended.set()
        await asyncio.gather(*slow)
        await receivers.close()


async def test_what_was_answered_with_2xx_is_taken_although_the_answer_never_ends() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\n")
        await reader.read()
        writer.close()
        await writer.wait_closed()
        hung_up.set()

    hung_up = asyncio.Event()
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    receivers = Receivers(Targets(frozenset({"127.0.0.1"}), plain_http=True), 30.0)
    try:
        port = server.sockets[0].getsockname()[1]
        found = await receivers.send(f"http://127.0.0.1:{port}/", MESSAGE, datetime.now(UTC))
        assert (found.status, found.error) == (202, "")
    finally:
        await receivers.close()
        await hung_up.wait()
        server.close()
        await server.wait_closed()
