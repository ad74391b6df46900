"""Webhooks as callers see them: what they change, what is refused, and what is told of it."""

from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
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
from tests.rpc.audit.conftest import Service, as_, refusal
from tests.rpc.audit.webhooks import ADMIN, LEAD, created, found, own_entries, started
from tests.support.receiver import Receiver

pytestmark = pytest.mark.asyncio(loop_scope="session")
DEVELOPER = as_("dev1")


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
