"""The RPCs of freeze windows: convert, call, convert."""

from release_manager.deployment.v1 import restrictions_pb2 as pb

from services.deployment import messages_freezes as messages
from services.deployment.operations import freezes
from shared.outbox.rpcs import Context, Rpcs


class FreezeRpcs(Rpcs):
    """Says when deployments may not start, or may."""

    async def CreateFreezeWindow(
        self, request: pb.CreateFreezeWindowRequest, _: Context
    ) -> pb.CreateFreezeWindowResponse:
        """Create a freeze window."""
        values = messages.new_window(request)
        return await self._changes.answer(
            request,
            pb.CreateFreezeWindowResponse,
            lambda change: freezes.create(change, values),
            messages.created,
        )

    async def GetFreezeWindow(
        self, request: pb.GetFreezeWindowRequest, _: Context
    ) -> pb.GetFreezeWindowResponse:
        """Return a freeze window."""
        found = await freezes.get(self._db, request.window)
        return pb.GetFreezeWindowResponse(window=messages.window(found))

    async def ListFreezeWindows(
        self, request: pb.ListFreezeWindowsRequest, _: Context
    ) -> pb.ListFreezeWindowsResponse:
        """Return a page of freeze windows."""
        query = messages.windows(request, self._paging.wanted(request))
        page = await freezes.page(self._db, query)
        return pb.ListFreezeWindowsResponse(
            windows=map(messages.window, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def UpdateFreezeWindow(
        self, request: pb.UpdateFreezeWindowRequest, _: Context
    ) -> pb.UpdateFreezeWindowResponse:
        """Change a freeze window."""
        wanted = messages.window_update(request)
        return await self._changes.answer(
            request,
            pb.UpdateFreezeWindowResponse,
            lambda change: freezes.update(change, wanted.reference, wanted.values, wanted.etag),
            messages.updated,
        )

    async def ArchiveFreezeWindow(
        self, request: pb.ArchiveFreezeWindowRequest, _: Context
    ) -> pb.ArchiveFreezeWindowResponse:
        """Archive a freeze window."""
        return await self._changes.answer(
            request,
            pb.ArchiveFreezeWindowResponse,
            lambda change: freezes.archive(change, request.window, request.etag),
            messages.archived,
        )

    async def UnarchiveFreezeWindow(
        self, request: pb.UnarchiveFreezeWindowRequest, _: Context
    ) -> pb.UnarchiveFreezeWindowResponse:
        """Take a freeze window out of the archive."""
        return await self._changes.answer(
            request,
            pb.UnarchiveFreezeWindowResponse,
            lambda change: freezes.unarchive(change, request.window, request.etag),
            messages.unarchived,
        )
