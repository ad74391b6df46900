"""The RPCs of overrides: convert, call, convert."""

from uuid import UUID

from release_manager.deployment.v1 import restrictions_pb2 as pb

from services.deployment import messages_overrides as messages
from services.deployment.operations import overrides
from shared.outbox.rpcs import Context, Rpcs


class OverrideRpcs(Rpcs):
    """Lets deployments past gates."""

    async def OverrideGate(
        self, request: pb.OverrideGateRequest, _: Context
    ) -> pb.OverrideGateResponse:
        """Let a waiting deployment past a gate."""
        (wanted,) = messages.new_overrides([request])
        return await self._changes.answer(
            request,
            pb.OverrideGateResponse,
            lambda change: overrides.give(change, UUID(request.deployment), wanted),
            messages.given,
        )

    async def ListOverrides(
        self, request: pb.ListOverridesRequest, _: Context
    ) -> pb.ListOverridesResponse:
        """Return a page of overrides."""
        query = messages.overrides(request, self._paging.wanted(request))
        page = await overrides.page(self._db, query)
        return pb.ListOverridesResponse(
            overrides=map(messages.gate_override, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )
