"""The RPCs of executors: convert, call, convert."""

from release_manager.deployment.v1 import execution_pb2 as pb

from services.deployment import messages_execution as messages
from services.deployment.operations import claims
from shared.outbox.rpcs import Context, Rpcs


class LeaseRpcs(Rpcs):
    """Claims, renews, gives back, and stops."""

    async def ClaimDeployment(
        self, request: pb.ClaimDeploymentRequest, _: Context
    ) -> pb.ClaimDeploymentResponse:
        """Claim a deployment."""
        return await self._changes.answer(
            request,
            pb.ClaimDeploymentResponse,
            lambda change: claims.claim(change, messages.claim(request)),
            messages.claimed,
        )

    async def RenewLease(self, request: pb.RenewLeaseRequest, _: Context) -> pb.RenewLeaseResponse:
        """Move the end of a lease on."""
        return await self._changes.answer(
            request,
            pb.RenewLeaseResponse,
            lambda change: claims.renew(change, messages.held(request)),
            messages.renewed,
        )

    async def ReleaseLease(
        self, request: pb.ReleaseLeaseRequest, _: Context
    ) -> pb.ReleaseLeaseResponse:
        """Give a lease back."""
        return await self._changes.answer(
            request,
            pb.ReleaseLeaseResponse,
            lambda change: claims.release(change, messages.held(request)),
            messages.released,
        )

    async def ConfirmCancelled(
        self, request: pb.ConfirmCancelledRequest, _: Context
    ) -> pb.ConfirmCancelledResponse:
        """End a deployment whose executor has stopped."""
        return await self._changes.answer(
            request,
            pb.ConfirmCancelledResponse,
            lambda change: claims.confirm(change, messages.held(request)),
            messages.confirmed,
        )
