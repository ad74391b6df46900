"""The RPCs of notifications: convert, call, convert."""

from typing import Any

from google.protobuf.message import Message
from release_manager.audit.v1 import notifications_pb2 as pb
from release_manager.audit.v1 import notifications_pb2_grpc

from services.audit import messages_notifications as messages
from services.audit.notifying.changing import Asked
from services.audit.notifying.notifying import Notifying
from services.audit.notifying.webhooks import ListQuery
from shared.identity.actor import caller, current_call
from shared.outbox.repeats import memory_of
from shared.rpc.interceptors.around import Context
from shared.rpc.masks import changed_fields


class NotificationServicer(notifications_pb2_grpc.NotificationServiceServicer):
    """Webhooks: what they are, what they were sent, and trying them out."""

    def __init__(self, notifying: Notifying, secret: bytes) -> None:
        """Take the operations, and the installation's secret."""
        self._webhooks = notifying.webhooks
        self._trying = notifying.trying
        self._wake = notifying.notifier.wake
        self._secret = secret

    async def CreateWebhook(
        self, request: pb.CreateWebhookRequest, _: Context
    ) -> pb.CreateWebhookResponse:
        """Create a webhook."""
        values = messages.new(request)
        made = await self._webhooks.create(values, self._asked(request), messages.created)
        self._wake()
        return pb.CreateWebhookResponse.FromString(made)

    async def GetWebhook(self, request: pb.GetWebhookRequest, _: Context) -> pb.GetWebhookResponse:
        """Return a webhook."""
        found = await self._webhooks.get(request.webhook)
        return pb.GetWebhookResponse(webhook=messages.webhook(found))

    async def ListWebhooks(
        self, request: pb.ListWebhooksRequest, _: Context
    ) -> pb.ListWebhooksResponse:
        """Return a page of webhooks."""
        found, token = await self._webhooks.page(_list_query(request))
        return pb.ListWebhooksResponse(
            webhooks=[messages.webhook(one) for one in found], next_page_token=token
        )

    async def UpdateWebhook(
        self, request: pb.UpdateWebhookRequest, _: Context
    ) -> pb.UpdateWebhookResponse:
        """Change a webhook."""
        values = messages.content(changed_fields(request, required=("name", "url")))
        made = await self._webhooks.update(
            request.webhook, request.etag, values, self._asked(request), messages.updated
        )
        self._wake()
        return pb.UpdateWebhookResponse.FromString(made)

    async def DeleteWebhook(
        self, request: pb.DeleteWebhookRequest, _: Context
    ) -> pb.DeleteWebhookResponse:
        """Delete a webhook."""
        made = await self._webhooks.delete(
            request.webhook, request.etag, self._asked(request), messages.deleted
        )
        self._wake()
        return pb.DeleteWebhookResponse.FromString(made)

    async def RotateWebhookSecret(
        self, request: pb.RotateWebhookSecretRequest, _: Context
    ) -> pb.RotateWebhookSecretResponse:
        """Give a webhook a new secret."""
        overlap = request.overlap.ToTimedelta() if request.HasField("overlap") else None
        made = await self._webhooks.rotate(
            request.webhook, request.etag, overlap, self._asked(request), messages.rotated
        )
        return pb.RotateWebhookSecretResponse.FromString(made)

    async def TestWebhook(
        self, request: pb.TestWebhookRequest, _: Context
    ) -> pb.TestWebhookResponse:
        """Send a test event."""
        return messages.tried(await self._trying.test(request.webhook))

    async def ListWebhookDeliveries(
        self, request: pb.ListWebhookDeliveriesRequest, _: Context
    ) -> pb.ListWebhookDeliveriesResponse:
        """Return a page of deliveries."""
        state = messages.STATES[request.state]
        asked = _list_query(request, webhook=request.webhook, state=state)
        found, token = await self._webhooks.deliveries(asked)
        return pb.ListWebhookDeliveriesResponse(
            deliveries=[messages.delivery(row._mapping) for row in found],  # noqa: SLF001
            next_page_token=token,
        )

    async def RedeliverWebhookEvent(
        self, request: pb.RedeliverWebhookEventRequest, _: Context
    ) -> pb.RedeliverWebhookEventResponse:
        """Send events again."""
        if request.HasField("leaf_index"):
            sent = await self._trying.again(
                request.webhook,
                request.etag,
                request.leaf_index,
                validate_only=request.validate_only,
            )
            return messages.sent_again(*sent)
        await self._trying.check_position(request.from_index)
        made = await self._webhooks.begin_again(
            request.webhook,
            request.etag,
            request.from_index,
            self._asked(request),
            messages.begun_again,
        )
        self._wake()
        return pb.RedeliverWebhookEventResponse.FromString(made)

    def _asked(self, request: Message) -> Asked:
        return Asked(
            memory_of(current_call.get(), request, self._secret),
            getattr(request, "validate_only", False),
        )


def _list_query(request: Any, *, webhook: str = "", state: str = "") -> ListQuery:  # noqa: ANN401  (any List request)
    return ListQuery(
        method=current_call.get().method,
        caller=caller().user_id,
        size=request.page_size,
        token=request.page_token,
        webhook=webhook,
        state=state,
    )
