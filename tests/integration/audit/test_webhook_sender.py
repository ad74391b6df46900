"""One sender, step by step, on a clock that the test moves: order, pauses, giving up, stopping."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from services.audit.notifying.notifier import Notifier
from services.audit.notifying.receivers import Receivers
from services.audit.notifying.sender import FOREVER_S, Sender
from services.audit.reading.head_watch import HeadWatch
from services.audit.rules.happenings import happenings
from services.audit.rules.webhook_targets import Targets
from tests.integration.audit.conftest import World
from tests.integration.audit.webhook_bench import HOUR, Bench, running_bench
from tests.support.receiver import Receiver, receiving

MINUTE = timedelta(minutes=1)


@pytest_asyncio.fixture
async def bench(world: World, tmp_path: Path) -> AsyncIterator[Bench]:
    """A ledger whose own producer is one of the product's services."""
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(running_bench(world, tmp_path))


@pytest.mark.timeout(400)
async def test_order_holds_through_failures_and_new_senders(bench: Bench) -> None:
    chance = random.Random(7)
    async with receiving(lambda _number, _seen: chance.choice([200, 204, 202, 503, 302])) as there:
        webhook = await bench.webhook(there.url)
        ids = await bench.happen(500)
        sender = Sender(webhook, bench.sending)
        for number in range(3_000):
            if number % 150 == 149:  # as after a restart: all it knows is in the database
                sender = Sender(webhook, bench.sending)
            pause = await sender.step(await bench.seen())
            if pause is not None and pause >= FOREVER_S:
                break
            bench.clock.now += timedelta(seconds=pause or 0)
        assert [one.id for one in there.taken] == ids
        assert len(there.received) > 700  # so many attempts there were
        order = [one.id for one in there.received]
        assert order == sorted(order, key=ids.index)
    states = {row["state"] for row in await bench.row("webhook_deliveries")}
    assert states == {"delivered"}


async def test_pauses_are_kept_over_a_restart(bench: Bench) -> None:
    async with receiving(lambda _number, _seen: 500) as there:
        webhook = await bench.webhook(there.url)
        await bench.happen(1)
        seen, pauses = await bench.seen(), []
        for _ in range(8):
            pause = await Sender(webhook, bench.sending).step(seen)
            assert pause is not None
            early = await Sender(webhook, bench.sending).step(seen)
            assert early == pause  # nothing was sent before its time
            pauses.append(pause)
            bench.clock.now += timedelta(seconds=pause)
        assert pauses == [5, 10, 20, 40, 80, 160, 320, 640]
        assert len(there.received) == 8
        assert len({one.id for one in there.received}) == 1
        assert len({one.body for one in there.received}) == 1


async def test_a_dead_letter_lets_the_next_go_on_and_is_told(bench: Bench) -> None:
    refused: list[str] = []
    async with receiving(lambda _number, seen: 400 if seen.id in refused else 200) as there:
        webhook = await bench.webhook(there.url)
        ids = await bench.happen(3)
        refused.append(ids[1])
        began = bench.clock.now
        await bench.run(Sender(webhook, bench.sending))
        assert [one.id for one in there.taken] == [ids[0], ids[2]]
        took = bench.clock.now - began
        assert 22 * HOUR < took < 24 * HOUR + MINUTE
    rows = {row["event_id"]: row for row in await bench.row("webhook_deliveries")}
    assert [rows[one]["state"] for one in ids] == ["delivered", "given-up", "delivered"]
    assert rows[ids[1]]["attempts"] == len([one for one in there.received if one.id == ids[1]])
    assert await bench.told() == ["create", "give_up"]
    (progress,) = await bench.row("webhook_progress")
    assert (progress["failing_since"], progress["last_error"]) == (None, "")


async def test_a_receiver_that_takes_nothing_for_long_is_paused_and_loses_nothing(
    bench: Bench,
) -> None:
    async with receiving(lambda _number, _seen: 503) as there:
        webhook = await bench.webhook(there.url)
        ids = await bench.happen(6)
        began = bench.clock.now
        await bench.run(Sender(webhook, bench.sending))
        assert 72 * HOUR <= bench.clock.now - began < 74 * HOUR
        told = await bench.told()
        given_up = told.count("give_up")
        assert told == ["create", *["give_up"] * given_up, "pause"]
        assert given_up in {2, 3}
        there.choose = lambda _number, _seen: 200
        assert await Sender(webhook, bench.sending).step(await bench.seen()) is None
        await bench.resume()
        await bench.sign()
        await bench.run(Sender(webhook, bench.sending))
        assert [one.id for one in there.taken][: 6 - given_up] == ids[given_up:]


async def test_what_is_not_signed_is_not_sent(bench: Bench, receiver: Receiver) -> None:
    webhook = await bench.webhook(receiver.url)
    await bench.happen(2)
    await bench.happen(3, sign=False)
    sender = Sender(webhook, bench.sending)
    await bench.run(sender)
    assert len(receiver.taken) == 2
    await bench.sign()
    await bench.run(sender)
    assert len(receiver.taken) == 5


async def test_a_ledger_that_lost_entries_is_not_passed_over(
    bench: Bench, receiver: Receiver
) -> None:
    webhook = await bench.webhook(receiver.url)
    await bench.happen(2)
    await bench.world.owner.execute("UPDATE webhook_progress SET next_index = 50")
    await bench.run(Sender(webhook, bench.sending))
    (row,) = await bench.row("webhooks")
    assert row["paused"]
    assert row["paused_because"] == "The ledger ends at 3, before position 50."
    assert not receiver.received


async def test_what_was_sent_and_not_written_down_is_sent_again(
    bench: Bench, receiver: Receiver
) -> None:
    webhook = await bench.webhook(receiver.url)
    ids = await bench.happen(2)
    late = Sender(webhook, bench.sending)
    receiver.choose = lambda _number, _seen: 200
    await late.step(await bench.seen())
    # As a crash between the answer and the commit leaves it.
    await bench.world.owner.execute("UPDATE webhook_progress SET next_index = next_index - 1")
    await bench.run(Sender(webhook, bench.sending))
    assert [one.id for one in receiver.taken] == [ids[0], ids[0], ids[1]]


@pytest_asyncio.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes everything."""
    async with receiving() as running:
        yield running


async def test_two_processes_send_each_webhook_once(bench: Bench, receiver: Receiver) -> None:
    await bench.webhook(receiver.url)
    watch = HeadWatch(bench.world.reader)
    both = [Notifier(bench.sending, bench.watch), Notifier(bench.sending, watch)]
    for notifier in both:
        notifier.start()
    try:
        first = await bench.happen(60)
        await receiver.got(60)
        holder = next(one for one in both if one.held)
        (other,) = [one for one in both if one is not holder]
        assert not other.held
        await holder.stop()
        second = await bench.happen(60)
        async with asyncio.timeout(30):
            while second[-1] not in [one.id for one in receiver.taken]:
                receiver.arrived.clear()
                await receiver.arrived.wait()
        arrived = [one.id for one in receiver.taken]
        # What was on its way when the first one went may be there twice, one after the other.
        assert list(dict.fromkeys(arrived)) == [*first, *second]
        assert arrived == sorted(arrived, key=[*first, *second].index)
        assert len(arrived) <= 121
        assert receiver.most_under_way == 1
        assert other.held
    finally:
        for notifier in both:
            await notifier.stop()
        await watch.close()


async def test_a_slow_receiver_hinders_nobody_else(bench: Bench, receiver: Receiver) -> None:
    async with receiving() as slow:
        slow.seconds = 60.0
        await bench.webhook(slow.url, "slow")
        await bench.webhook(receiver.url, "quick")
        notifier = Notifier(bench.sending, bench.watch)
        notifier.start()
        try:
            ids = await bench.happen(100)
            taken = await receiver.got(100, seconds=90)
            assert [one.id for one in taken if one.id in ids] == ids
            assert len(slow.received) == 1
        finally:
            await notifier.stop()


async def test_old_deliveries_go_and_dead_letters_stay_longer(bench: Bench) -> None:
    async with receiving(lambda number, _seen: 400 if number else 200) as there:
        webhook = await bench.webhook(there.url)
        await bench.happen(2)
        await bench.run(Sender(webhook, bench.sending))
        notifier = Notifier(bench.sending, bench.watch)
        for days, left in ((6, 2), (2, 1), (83, 0)):
            bench.clock.now += timedelta(days=days)
            await notifier._forget()  # noqa: SLF001  (what it does now and then)
            assert len(await bench.row("webhook_deliveries")) == left, days


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1"])
async def test_a_name_that_leads_inside_is_refused_when_it_is_resolved(
    bench: Bench, receiver: Receiver, name: str
) -> None:
    inside = receiver.url.replace("127.0.0.1", name)
    strict = Receivers(Targets(plain_http=True), 30.0)
    webhook = await bench.webhook(receiver.url)
    ids = await bench.happen(1)
    row = await bench.webhooks.get(str(webhook))
    batch = await bench.sending.windows.read(1, 2)
    (event,) = happenings(batch.entries[0])
    message = bench.sending.message(row, event, bench.clock())
    try:
        answer = await strict.send(inside, message, bench.clock())
    finally:
        await strict.close()
    assert (answer.status, receiver.received) == (0, [])
    assert answer.error == "The URL leads to an address that is not public."
    assert ids[0] == message.id
