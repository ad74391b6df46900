"""Webhooks as callers and receivers see them."""

import asyncio
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.struct_pb2 import Struct
from release_manager.audit.v1 import audit_pb2
from release_manager.audit.v1 import notifications_pb2 as pb
from release_manager.common.v1 import audit_receipt_pb2

from shared.errors import (
    EtagMismatch,
    PageTokenInvalid,
    PositionOutOfRange,
    RequestIdReused,
    ResourceExists,
    ResourceNotFound,
    RoleRequired,
    ScopeRequired,
    ValidationFailed,
)
from shared.ids import new_id
from tests.rpc.audit.conftest import Service, as_, event, refusal, running_audit
from tests.support.database import PROJECT
from tests.support.machine import free_ports
from tests.support.receiver import Receiver, receiving

pytestmark = pytest.mark.asyncio(loop_scope="session")
ADMIN, LEAD, DEVELOPER = as_("admin"), as_("lead1"), as_("dev1")
LOCAL: Any = {"webhook_allow_http": True, "webhook_allowed_hosts": "127.0.0.1"}


@pytest_asyncio.fixture(loop_scope="session")
async def notifying(database_url: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that may send to this machine."""
    async with running_audit(database_url, tmp_path, **LOCAL) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that takes everything."""
    async with receiving() as running:
        yield running


def started(number: int = 0, **details: Any) -> audit_pb2.AuditEvent:
    """Return the entry of a deployment that starts."""
    told = Struct()
    told.update(
        {
            "release": "auth@1.4.0",
            "environment": "prod",
            "kind": "deploy",
            "before": {"status": "pending"},
            "after": {"status": "in-progress"},
            **details,
        }
    )
    return event(number, action="start", details=told)


async def created(service: Service, url: str, name: str = "chat", **given: Any) -> Any:
    """Create a webhook, and return the answer."""
    request = pb.CreateWebhookRequest(name=name, url=url, **given)
    return await service.notifications.CreateWebhook(request, metadata=ADMIN)


async def found(service: Service, name: str = "chat") -> pb.Webhook:
    """Return a webhook."""
    request = pb.GetWebhookRequest(webhook=name)
    answer: pb.GetWebhookResponse = await service.notifications.GetWebhook(request, metadata=LEAD)
    return answer.webhook


async def own_entries(service: Service) -> list[Any]:
    """Return the entries about webhooks, in order."""
    return list(
        await service.owner.fetch(
            "SELECT action, aggregate_seq, details::text, category FROM audit_logs"
            " WHERE resource_type = 'webhook' ORDER BY leaf_index"
        )
    )


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
    async with asyncio.timeout(10):
        while not (webhook := await found(notifying)).HasField("delivered_at"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    assert webhook.state == pb.WEBHOOK_STATE_ACTIVE


async def test_each_change_is_one_version_and_one_entry(
    notifying: Service, receiver: Receiver
) -> None:
    stub = notifying.notifications
    await created(notifying, receiver.url, paused=True)
    update = pb.UpdateWebhookRequest(webhook="CHAT", description="new", etag="1")
    assert (await stub.UpdateWebhook(update, metadata=ADMIN)).webhook.etag == "2"
    same = pb.UpdateWebhookRequest(webhook="chat", description="new")
    assert (await stub.UpdateWebhook(same, metadata=ADMIN)).webhook.etag == "2"
    mask = FieldMask(paths=["paused"])
    resumed = pb.UpdateWebhookRequest(webhook="chat", update_mask=mask)
    assert not (await stub.UpdateWebhook(resumed, metadata=ADMIN)).webhook.paused
    await stub.RotateWebhookSecret(pb.RotateWebhookSecretRequest(webhook="chat"), metadata=ADMIN)
    await stub.DeleteWebhook(pb.DeleteWebhookRequest(webhook="chat"), metadata=ADMIN)
    told = await own_entries(notifying)
    assert [(one["action"], one["aggregate_seq"]) for one in told] == [
        ("create", 1),
        ("update", 2),
        ("update", 3),
        ("rotate", 4),
        ("delete", 5),
    ]
    assert {one["category"] for one in told} == {"security"}
    assert isinstance(
        await refusal(stub.GetWebhook(pb.GetWebhookRequest(webhook="chat"), metadata=LEAD)),
        ResourceNotFound,
    )


async def test_trying_out_changes_nothing(notifying: Service, receiver: Receiver) -> None:
    stub = notifying.notifications
    tried = await created(notifying, receiver.url, validate_only=True)
    assert (tried.webhook.name, tried.secret) == ("chat", "")
    await created(notifying, receiver.url)
    rotate = pb.RotateWebhookSecretRequest(webhook="chat", validate_only=True)
    assert not (await stub.RotateWebhookSecret(rotate, metadata=ADMIN)).secret
    delete = pb.DeleteWebhookRequest(webhook="chat", validate_only=True)
    await stub.DeleteWebhook(delete, metadata=ADMIN)
    again = pb.RedeliverWebhookEventRequest(webhook="chat", from_index=0, validate_only=True)
    await stub.RedeliverWebhookEvent(again, metadata=ADMIN)
    assert (await found(notifying)).etag == "1"
    assert len(await own_entries(notifying)) == 1


async def test_a_call_with_a_request_id_is_done_once(
    notifying: Service, receiver: Receiver
) -> None:
    await created(notifying, receiver.url)
    update = pb.UpdateWebhookRequest(webhook="chat", name="talk", request_id=str(new_id()))
    first = await notifying.notifications.UpdateWebhook(update, metadata=ADMIN)
    assert await notifying.notifications.UpdateWebhook(update, metadata=ADMIN) == first
    update.name = "other"
    reused = await refusal(notifying.notifications.UpdateWebhook(update, metadata=ADMIN))
    assert isinstance(reused, RequestIdReused)


async def test_what_is_refused(notifying: Service, receiver: Receiver) -> None:
    stub = notifying.notifications
    await created(notifying, receiver.url)
    assert isinstance(await refusal(created(notifying, receiver.url, "Chat")), ResourceExists)
    for url in ("ftp://example.com", "https://u:p@example.com", "http://10.0.0.1/", "http://127.1"):
        error = await refusal(created(notifying, url, "bad"))
        assert isinstance(error, ValidationFailed), url
        assert error.fields[0].field == "url"
    stale = pb.UpdateWebhookRequest(webhook="chat", description="x", etag="7")
    assert isinstance(await refusal(stub.UpdateWebhook(stale, metadata=ADMIN)), EtagMismatch)
    emptied = pb.UpdateWebhookRequest(webhook="chat", update_mask=FieldMask(paths=["url"]))
    assert isinstance(await refusal(stub.UpdateWebhook(emptied, metadata=ADMIN)), ValidationFailed)
    beyond = pb.RedeliverWebhookEventRequest(webhook="chat", from_index=99)
    assert isinstance(
        await refusal(stub.RedeliverWebhookEvent(beyond, metadata=ADMIN)), PositionOutOfRange
    )
    page = pb.ListWebhooksRequest(page_token="AAAA")
    assert isinstance(await refusal(stub.ListWebhooks(page, metadata=LEAD)), PageTokenInvalid)
    test = pb.TestWebhookRequest(webhook="chat")
    assert isinstance(await refusal(stub.TestWebhook(test, metadata=LEAD)), RoleRequired)
    assert isinstance(await refusal(stub.TestWebhook(test, metadata=as_("robot"))), ScopeRequired)
    read = pb.GetWebhookRequest(webhook="chat")
    assert isinstance(await refusal(stub.GetWebhook(read, metadata=DEVELOPER)), RoleRequired)


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


async def test_after_a_rotation_both_secrets_sign_for_a_while(
    notifying: Service, receiver: Receiver
) -> None:
    old = (await created(notifying, receiver.url)).secret
    rotate = pb.RotateWebhookSecretRequest(webhook="chat")
    answer = await notifying.notifications.RotateWebhookSecret(rotate, metadata=ADMIN)
    assert answer.webhook.HasField("previous_key_ends_at")
    request = pb.TestWebhookRequest(webhook="chat")
    await notifying.notifications.TestWebhook(request, metadata=ADMIN)
    rotate.overlap.CopyFrom(Duration())
    last = await notifying.notifications.RotateWebhookSecret(rotate, metadata=ADMIN)
    await notifying.notifications.TestWebhook(request, metadata=ADMIN)
    tests = [one for one in receiver.received if "webhook.tested" in one.headers["ce-type"]]
    assert tests[0].is_signed_with(answer.secret, 0)
    assert tests[0].is_signed_with(old, 1)
    assert tests[1].is_signed_with(last.secret, 0)
    assert len(tests[1].headers["webhook-signature"].split()) == 1
    assert len({old, answer.secret, last.secret}) == 3


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


async def test_each_change_says_where_its_entries_are(
    notifying: Service, receiver: Receiver
) -> None:
    """The entries are in the ledger when the answer is given."""
    calls = notifying.notifications
    await notifying.log(started(0))
    create = pb.CreateWebhookRequest(name="chat", url=receiver.url, paused=True)
    update = pb.UpdateWebhookRequest(webhook="chat", description="for the team")
    asked: list[tuple[str, Any]] = [
        ("CreateWebhook", create),
        ("UpdateWebhook", update),
        ("RotateWebhookSecret", pb.RotateWebhookSecretRequest(webhook="chat")),
        ("RedeliverWebhookEvent", pb.RedeliverWebhookEventRequest(webhook="chat", leaf_index=0)),
        ("RedeliverWebhookEvent", pb.RedeliverWebhookEventRequest(webhook="chat", from_index=0)),
        ("DeleteWebhook", pb.DeleteWebhookRequest(webhook="chat")),
    ]
    told: list[tuple[str, int]] = []
    for name, request in asked:
        if name != "CreateWebhook":
            rehearsal = type(request)()
            rehearsal.CopyFrom(request)
            rehearsal.validate_only = True
            answer = await getattr(calls, name)(rehearsal, metadata=ADMIN)
            assert not answer.HasField("audit")
        answer = await getattr(calls, name)(request, metadata=ADMIN)
        assert answer.audit.state == audit_receipt_pb2.AUDIT_STATE_RECORDED
        told += zip(answer.audit.event_ids, answer.audit.leaf_indexes, strict=True)
        if name == "UpdateWebhook":
            answer = await calls.UpdateWebhook(request, metadata=ADMIN)
            assert not answer.HasField("audit")  # it was so already
    rows = await notifying.owner.fetch(
        "SELECT event_id::text, leaf_index, action FROM audit_logs"
        " WHERE resource_type = 'webhook' ORDER BY leaf_index"
    )
    assert told == [(row["event_id"], row["leaf_index"]) for row in rows]
    actions = ["create", "update", "rotate", "redeliver", "redeliver", "delete"]
    assert [row["action"] for row in rows] == actions


async def test_what_is_gone_is_not_asked_again(notifying: Service, receiver: Receiver) -> None:
    receiver.choose = lambda number, _request: 410 if number == 0 else 200
    await created(notifying, receiver.url)
    await notifying.log(started(1), started(2))
    async with asyncio.timeout(10):
        while not (webhook := await found(notifying)).paused:  # noqa: ASYNC110  (it is another's)
            await asyncio.sleep(0.05)
    assert webhook.state == pb.WEBHOOK_STATE_PAUSED
    assert webhook.paused_because == "The receiver answered 410 Gone."
    assert len(receiver.received) == 1
    last = (await own_entries(notifying))[-1]
    assert (last["action"], last["aggregate_seq"]) == ("pause", 2)
    resume = pb.UpdateWebhookRequest(webhook="chat", update_mask=FieldMask(paths=["paused"]))
    await notifying.notifications.UpdateWebhook(resume, metadata=ADMIN)
    taken = await receiver.got(2)
    assert [one.event["subject"]["id"] for one in taken[:2]] == ["d-1", "d-2"]


async def test_secrets_are_nowhere(
    notifying: Service, receiver: Receiver, capfd: pytest.CaptureFixture[str]
) -> None:
    secrets = [(await created(notifying, receiver.url)).secret]
    rotate = pb.RotateWebhookSecretRequest(webhook="chat")
    answer = await notifying.notifications.RotateWebhookSecret(rotate, metadata=ADMIN)
    secrets.append(answer.secret)
    await notifying.log(started(1))
    await receiver.got(1)
    webhook = await found(notifying)
    deliveries = await notifying.notifications.ListWebhookDeliveries(
        pb.ListWebhookDeliveriesRequest(webhook="chat"), metadata=LEAD
    )
    tables = await notifying.owner.fetch(
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition"
        " AND relnamespace = 'public'::regnamespace"
    )
    dumps = [
        await notifying.owner.fetchval(f"SELECT jsonb_agg(t)::text FROM {table[0]} AS t")
        for table in tables
    ]
    logged = capfd.readouterr()
    places = [
        str(webhook),
        str(deliveries),
        logged.out,
        logged.err,
        *(text or "" for text in dumps),
    ]
    places += [str(one.headers) + str(one.body) for one in receiver.received]
    assert not [place for place in places for one in secrets if one.removeprefix("whsec_") in place]
    assert any("chat" in place for place in places)


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
