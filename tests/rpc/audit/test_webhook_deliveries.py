"""What webhooks send, as receivers see it: what is chosen, signed, tried out and sent again."""

import asyncio
import re
import sys
import time
from pathlib import Path

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from release_manager.audit.v1 import notifications_pb2 as pb

from tests.rpc.audit.conftest import LOCAL, Service, event, running_audit
from tests.rpc.audit.webhooks import ADMIN, LEAD, created, found, own_entries, started
from tests.support.database import PROJECT
from tests.support.machine import free_ports
from tests.support.polling import eventually
from tests.support.receiver import Receiver

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_what_happens_is_sent_signed(notifying: Service, receiver: Receiver) -> None:
    await notifying.log(started(1))  # before the webhook was there
    made = await created(notifying, receiver.url)
    sent = started(2, reason="Ünïcode")
    await notifying.log(sent)
    (request,) = await receiver.got(1)
    assert made.secret.startswith("whsec_")
    assert request.is_signed_with(made.secret)
    assert abs(time.time() - int(request.headers["webhook-timestamp"])) < 60
    assert request.headers["content-type"] == "application/json"
    assert request.id == sent.event_id == request.event["context"]["id"]
    kind = "dev.cdevents.pipelinerun.started.0.2.0"
    assert request.event["context"]["type"] == request.headers["ce-type"] == kind
    assert request.event["subject"]["id"] == "d-2"
    assert request.event["customData"]["details"]["reason"] == "Ünïcode"

    async def is_delivered() -> bool:
        return (await found(notifying)).HasField("delivered_at")

    await eventually(is_delivered)
    assert (await found(notifying)).state == pb.WEBHOOK_STATE_ACTIVE


async def test_a_test_says_what_came_back(notifying: Service, receiver: Receiver) -> None:
    made = await created(notifying, receiver.url, paused=True)
    receiver.choose = lambda number, _request: (200, 503, 302)[number]
    receiver.body = b"not\x00 today" * 1_000
    receiver.headers = {"location": receiver.url + "/elsewhere"}
    request = pb.TestWebhookRequest(webhook="chat")
    answers = [
        (await notifying.notifications.TestWebhook(request, metadata=ADMIN)).delivery
        for _ in range(3)
    ]
    states = [(one.state, one.status_code) for one in answers]
    assert states == [
        (pb.WEBHOOK_DELIVERY_STATE_DELIVERED, 200),
        (pb.WEBHOOK_DELIVERY_STATE_REFUSED, 503),
        (pb.WEBHOOK_DELIVERY_STATE_REFUSED, 302),
    ]
    assert answers[1].error.startswith("HTTP 503: not  today")
    assert len(answers[1].error) < 600
    assert [one.path for one in receiver.received] == ["/hook"] * 3  # no redirect was followed
    assert receiver.received[0].is_signed_with(made.secret)
    receiver.seconds = 0.0
    gone = pb.UpdateWebhookRequest(webhook="chat", url="http://127.0.0.1:1/")
    await notifying.notifications.UpdateWebhook(gone, metadata=ADMIN)
    answer = (await notifying.notifications.TestWebhook(request, metadata=ADMIN)).delivery
    assert (answer.status_code, answer.error) == (0, "The receiver cannot be connected to.")


async def test_filters_choose_what_is_sent(notifying: Service, receiver: Receiver) -> None:
    kinds = [pb.WEBHOOK_EVENT_TYPE_DEPLOYMENT_STARTED, pb.WEBHOOK_EVENT_TYPE_LOCK_CREATED]
    await created(
        notifying, receiver.url, event_types=kinds, environments=["Prod"], services=["auth"]
    )
    everything = Struct()
    everything.update({"place": "everything"})
    wanted = [
        started(1),
        event(3, action="lock", resource_type="lock", details=everything),
        started(9),
    ]
    passed = [
        started(2, environment="dev"),
        started(4, release="cart@1.0.0"),
        started(5, after={"status": "completed"}, before={"status": "in-progress"}),
    ]
    for one in (wanted[0], *passed[:1], wanted[1], *passed[1:], wanted[2]):
        await notifying.log(one)
    taken = await receiver.got(3)
    assert [one.id for one in taken] == [one.event_id for one in wanted]


async def test_entries_of_other_producers_are_not_sent(
    notifying: Service, receiver: Receiver
) -> None:
    await created(notifying, receiver.url)
    await notifying.log(started(1), by="alone")
    await notifying.log(started(2))
    assert [one.event["subject"]["id"] for one in await receiver.got(1)] == ["d-2"]


async def test_an_entry_or_all_since_a_position_are_sent_again(
    notifying: Service, receiver: Receiver
) -> None:
    await created(notifying, receiver.url, event_types=[pb.WEBHOOK_EVENT_TYPE_DEPLOYMENT_STARTED])
    await notifying.log(*(started(number) for number in range(5)))
    first = [one.id for one in await receiver.got(5)]
    again = pb.RedeliverWebhookEventRequest(webhook="chat", leaf_index=3)
    answer = await notifying.notifications.RedeliverWebhookEvent(again, metadata=ADMIN)
    assert [(one.event_id, one.attempts, one.state) for one in answer.deliveries] == [
        (first[2], 2, pb.WEBHOOK_DELIVERY_STATE_DELIVERED)
    ]
    since = pb.RedeliverWebhookEventRequest(webhook="chat", from_index=2)
    await notifying.notifications.RedeliverWebhookEvent(since, metadata=ADMIN)
    taken = await receiver.got(10)
    assert [one.id for one in taken] == [*first, first[2], *first[1:]]
    listed = pb.ListWebhookDeliveriesRequest(webhook="chat", page_size=3)
    page = await notifying.notifications.ListWebhookDeliveries(listed, metadata=LEAD)
    assert [one.leaf_index for one in page.deliveries] == [5, 4, 3]
    listed.page_token = page.next_page_token
    page = await notifying.notifications.ListWebhookDeliveries(listed, metadata=LEAD)
    assert [one.leaf_index for one in page.deliveries] == [2, 1]
    assert not page.next_page_token


async def test_what_is_gone_is_not_asked_again(notifying: Service, receiver: Receiver) -> None:
    receiver.choose = lambda number, _request: 410 if number == 0 else 200
    await created(notifying, receiver.url)
    await notifying.log(started(1), started(2))

    async def is_paused() -> bool:
        return (await found(notifying)).paused

    await eventually(is_paused)
    webhook = await found(notifying)
    assert webhook.state == pb.WEBHOOK_STATE_PAUSED
    assert webhook.paused_because == "The receiver answered 410 Gone."
    assert len(receiver.received) == 1
    last = (await own_entries(notifying))[-1]
    assert (last["action"], last["aggregate_seq"]) == ("pause", 2)
    resume = pb.UpdateWebhookRequest(webhook="chat", update_mask=FieldMask(paths=["paused"]))
    await notifying.notifications.UpdateWebhook(resume, metadata=ADMIN)
    taken = await receiver.got(2)
    assert [one.event["subject"]["id"] for one in taken[:2]] == ["d-1", "d-2"]


async def test_the_receiver_of_the_manual_verifies(notifying: Service, tmp_path: Path) -> None:
    manual = (PROJECT / "docs" / "notifications.md").read_text()
    (program,) = re.findall(r"<!-- receiver -->\n```python\n(.*?)```", manual, re.DOTALL)
    path = tmp_path / "receiver.py"
    path.write_text(program)
    (port,) = free_ports(1)
    made = await created(notifying, f"http://127.0.0.1:{port}/hook", paused=True)
    test = pb.TestWebhookRequest(webhook="chat")
    for secret, status in ((made.secret, 204), ("whsec_" + "A" * 44, 401)):
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(path), str(port), secret, stdout=asyncio.subprocess.PIPE
        )
        try:
            async with asyncio.timeout(20):
                answer = pb.WebhookDelivery()
                while not answer.status_code:  # until it listens
                    await asyncio.sleep(0.1)
                    tried = await notifying.notifications.TestWebhook(test, metadata=ADMIN)
                    answer = tried.delivery
                assert process.stdout is not None
                told = (await process.stdout.readline()).decode().split()
        finally:
            process.kill()
            await process.wait()
        assert answer.status_code == status
        genuine = str(status == 204)
        assert told == [
            genuine,
            answer.event_id,
            "dev.cdeventsx.releasemanager-webhook.tested.0.1.0",
        ]


async def test_nothing_is_missing_after_a_restart_in_the_middle(
    database_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    async with running_audit(database_url, tmp_path, **LOCAL) as first:
        await created(first, receiver.url)
        sent = [started(number) for number in range(120)]
        await first.log(*sent)
        await receiver.got(30)
        callers = first.callers
        await first.stop()
    before = len(receiver.taken)
    assert before < 120
    async with running_audit(database_url, tmp_path, callers, **LOCAL) as second:
        async with asyncio.timeout(30):
            while sent[-1].event_id not in [one.id for one in receiver.taken]:
                receiver.arrived.clear()
                await receiver.arrived.wait()
        assert second.stub is not first.stub
    arrived, ids = [one.id for one in receiver.taken], [one.event_id for one in sent]
    assert list(dict.fromkeys(arrived)) == ids
    assert arrived == sorted(arrived, key=ids.index)
    assert len(arrived) <= len(ids) + 1
