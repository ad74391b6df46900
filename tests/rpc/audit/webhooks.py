"""Calls about webhooks by those who may make them, and what webhooks are told of."""

from typing import Any

from google.protobuf.struct_pb2 import Struct
from release_manager.audit.v1 import audit_pb2
from release_manager.audit.v1 import notifications_pb2 as pb

from tests.rpc.audit.conftest import Service, as_, event

ADMIN, LEAD = as_("admin"), as_("lead1")


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
