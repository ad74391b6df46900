"""The RPCs of runbooks: convert, call, convert."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages import runbooks as messages
from services.catalog.operations import runbooks
from services.catalog.servicer.rpcs import Context, Rpcs


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
        found = await runbooks.get(self._db, request.runbook)
        return pb.GetRunbookResponse(runbook=messages.runbook(found))

    async def ListRunbooks(
        self, request: pb.ListRunbooksRequest, _: Context
    ) -> pb.ListRunbooksResponse:
        """Return a page of runbooks, without their content."""
        wanted = messages.runbook_filter(request)
        page = await runbooks.page(self._db, wanted, self._paging.wanted(request))
        return pb.ListRunbooksResponse(
            runbooks=map(messages.runbook, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )
