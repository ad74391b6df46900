"""The RPCs with which people go on after a failure, and the attempts: convert, call, convert."""

from release_manager.deployment.v1 import execution_pb2 as pb

from services.deployment import messages_execution as messages
from services.deployment.operations import attempts, interventions
from shared.outbox.rpcs import Context, Rpcs


class InterventionRpcs(Rpcs):
    """Retries, ignores, skips, gives up, and tells of attempts."""

    async def RetryStage(self, request: pb.RetryStageRequest, _: Context) -> pb.RetryStageResponse:
        """Begin a new attempt."""
        return await self._changes.answer(
            request,
            pb.RetryStageResponse,
            lambda change: interventions.retry(change, messages.order(request)),
            messages.retried,
        )

    async def IgnoreStage(
        self, request: pb.IgnoreStageRequest, _: Context
    ) -> pb.IgnoreStageResponse:
        """Go on in spite of a failure."""
        return await self._changes.answer(
            request,
            pb.IgnoreStageResponse,
            lambda change: interventions.ignore(change, messages.order(request)),
            messages.ignored,
        )

    async def SkipStage(self, request: pb.SkipStageRequest, _: Context) -> pb.SkipStageResponse:
        """Leave a stage out."""
        return await self._changes.answer(
            request,
            pb.SkipStageResponse,
            lambda change: interventions.skip(change, messages.order(request)),
            messages.skipped,
        )

    async def FailDeployment(
        self, request: pb.FailDeploymentRequest, _: Context
    ) -> pb.FailDeploymentResponse:
        """Give up on a paused deployment."""
        return await self._changes.answer(
            request,
            pb.FailDeploymentResponse,
            lambda change: interventions.give_up(change, messages.give_up(request)),
            messages.failed,
        )

    async def ListStageAttempts(
        self, request: pb.ListStageAttemptsRequest, _: Context
    ) -> pb.ListStageAttemptsResponse:
        """Return a page of attempts."""
        query = messages.attempts(request, self._paging.wanted(request))
        page = await attempts.in_order(self._db, query)
        return pb.ListStageAttemptsResponse(
            attempts=map(messages.attempt, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )
