"""A request for each RPC about webhooks that it accepts, on webhooks made for that."""

from collections.abc import Mapping

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from release_manager.audit.v1 import audit_pb2 as audit
from release_manager.audit.v1 import notifications_pb2 as pb

from tests.support.platform import Platform
from tests.support.raw_calls import Metadata

# A name that no resolver knows, so that nothing is sent anywhere.
NOWHERE = "https://corpus.invalid/hook"
NAME = "corpus"


async def notification_requests(platform: Platform, admin: Metadata) -> Mapping[str, Message]:
    """Make two webhooks that are paused, one with deliveries; return requests about it."""
    for name in ("corpus-other", NAME):
        made = pb.CreateWebhookRequest(name=name, url=NOWHERE, paused=True)
        await platform.notifications.CreateWebhook(made, metadata=admin)
    requested = audit.ListAuditLogsRequest(
        page_size=2, filter=audit.AuditLogFilter(resource_type="deployment", action="start")
    )
    found = await platform.audit.ListAuditLogs(requested, metadata=admin)
    for entry in found.audit_logs:
        again = pb.RedeliverWebhookEventRequest(webhook=NAME, leaf_index=entry.leaf_index)
        await platform.notifications.RedeliverWebhookEvent(again, metadata=admin)
    return {
        "CreateWebhook": pb.CreateWebhookRequest(
            name="corpus-new",
            url=NOWHERE,
            event_types=[pb.WEBHOOK_EVENT_TYPE_DEPLOYMENT_STARTED],
            environments=["Dev"],
            services=["auth-service"],
            description="corpus",
            paused=True,
            validate_only=True,
        ),
        "GetWebhook": pb.GetWebhookRequest(webhook=NAME),
        "ListWebhooks": pb.ListWebhooksRequest(),
        "UpdateWebhook": pb.UpdateWebhookRequest(
            webhook=NAME,
            url=f"{NOWHERE}/other",
            event_types=[pb.WEBHOOK_EVENT_TYPE_DEPLOYMENT_FAILED],
            environments=["Prod"],
            services=["auth-service"],
            description="corpus",
            validate_only=True,
        ),
        "DeleteWebhook": pb.DeleteWebhookRequest(webhook=NAME, validate_only=True),
        "RotateWebhookSecret": pb.RotateWebhookSecretRequest(
            webhook=NAME, overlap=Duration(seconds=60), validate_only=True
        ),
        "TestWebhook": pb.TestWebhookRequest(webhook=NAME),
        "ListWebhookDeliveries": pb.ListWebhookDeliveriesRequest(webhook=NAME),
        "RedeliverWebhookEvent": pb.RedeliverWebhookEventRequest(
            webhook=NAME, from_index=0, validate_only=True
        ),
    }
