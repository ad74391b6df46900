"""The RPCs of runbooks: convert, call, convert."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages import runbooks as messages
from services.catalog.operations import runbooks
from shared.outbox.rpcs import Context, Rpcs


class RunbookRpcs(Rpcs):
    """Manages runbooks."""

    async def CreateRunbook(
        self, request: pb.CreateRunbookRequest, _: Context
    ) -> pb.CreateRunbookResponse:
        """Create a runbook."""
        return await self._changes.answer(
            request,
            pb.CreateRunbookResponse,
            lambda change: runbooks.create(change, messages.new_runbook(request)),
            messages.runbook_created,
        )

    async def GetRunbook(self, request: pb.GetRunbookRequest, _: Context) -> pb.GetRunbookResponse:
        """Return a runbook."""
        found = await runbooks.get(self._db, request.runbook, request.version, draft=request.draft)
        return pb.GetRunbookResponse(runbook=messages.runbook(found))

    async def ListRunbooks(
        self, request: pb.ListRunbooksRequest, _: Context
    ) -> pb.ListRunbooksResponse:
        """Return a page of runbooks, without their content."""
        page = await runbooks.page(
            self._db,
            messages.runbook_choice(request),
            messages.listing(request),
            self._paging.wanted(request),
        )
        return pb.ListRunbooksResponse(
            runbooks=map(messages.runbook, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def UpdateRunbook(
        self, request: pb.UpdateRunbookRequest, _: Context
    ) -> pb.UpdateRunbookResponse:
        """Change a runbook."""
        wanted = messages.runbook_update(request)
        return await self._changes.answer(
            request,
            pb.UpdateRunbookResponse,
            lambda change: runbooks.update(change, wanted),
            messages.runbook_updated,
        )

    async def ArchiveRunbook(
        self, request: pb.ArchiveRunbookRequest, _: Context
    ) -> pb.ArchiveRunbookResponse:
        """Archive a runbook."""
        return await self._changes.answer(
            request,
            pb.ArchiveRunbookResponse,
            lambda change: runbooks.archive(change, request.runbook, request.etag),
            messages.runbook_archived,
        )

    async def UnarchiveRunbook(
        self, request: pb.UnarchiveRunbookRequest, _: Context
    ) -> pb.UnarchiveRunbookResponse:
        """Take a runbook out of the archive."""
        return await self._changes.answer(
            request,
            pb.UnarchiveRunbookResponse,
            lambda change: runbooks.unarchive(change, request.runbook, request.etag),
            messages.runbook_unarchived,
        )

    async def DeleteRunbook(
        self, request: pb.DeleteRunbookRequest, _: Context
    ) -> pb.DeleteRunbookResponse:
        """Delete a runbook."""
        return await self._changes.answer(
            request,
            pb.DeleteRunbookResponse,
            lambda change: runbooks.delete(change, request.runbook, request.etag),
            messages.runbook_deleted,
        )

    async def PublishRunbook(
        self, request: pb.PublishRunbookRequest, _: Context
    ) -> pb.PublishRunbookResponse:
        """Publish the draft of a runbook."""
        return await self._changes.answer(
            request,
            pb.PublishRunbookResponse,
            lambda change: runbooks.publish(change, request.runbook, request.etag),
            messages.runbook_published,
        )

    async def ListRunbookVersions(
        self, request: pb.ListRunbookVersionsRequest, _: Context
    ) -> pb.ListRunbookVersionsResponse:
        """Return a page of the versions of a runbook."""
        page = await runbooks.versions(self._db, request.runbook, self._paging.wanted(request))
        return pb.ListRunbookVersionsResponse(
            versions=map(messages.version, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )
