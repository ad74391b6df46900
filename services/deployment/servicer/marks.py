"""The RPCs of marks: convert, call, convert."""

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment import messages_marks as messages
from services.deployment.operations import marks
from shared.outbox.rpcs import Context, Rpcs


class MarkRpcs(Rpcs):
    """Marks releases as bad."""

    async def MarkReleaseBad(
        self, request: pb.MarkReleaseBadRequest, _: Context
    ) -> pb.MarkReleaseBadResponse:
        """Mark a release."""
        return await self._changes.answer(
            request,
            pb.MarkReleaseBadResponse,
            lambda change: marks.mark(change, messages.named(request)),
            messages.marked,
        )

    async def ClearReleaseBad(
        self, request: pb.ClearReleaseBadRequest, _: Context
    ) -> pb.ClearReleaseBadResponse:
        """Take a mark away."""
        return await self._changes.answer(
            request,
            pb.ClearReleaseBadResponse,
            lambda change: marks.clear(change, messages.named(request)),
            messages.cleared,
        )

    async def ListReleaseMarks(
        self, request: pb.ListReleaseMarksRequest, _: Context
    ) -> pb.ListReleaseMarksResponse:
        """Return a page of marks."""
        query = messages.marks(request, self._paging.wanted(request))
        page = await marks.page(self._db, query)
        return pb.ListReleaseMarksResponse(
            marks=map(messages.mark, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )
