"""The RPCs of working with runbooks: convert, call, convert."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages import runbook_executions as messages
from services.catalog.operations import runbook_executions
from shared.outbox.rpcs import Context, Rpcs


class RunbookExecutionRpcs(Rpcs):
    """Records executions of runbooks, and suggests runbooks."""

    async def RecordRunbookExecution(
        self, request: pb.RecordRunbookExecutionRequest, _: Context
    ) -> pb.RecordRunbookExecutionResponse:
        """Record an execution."""
        return await self._changes.answer(
            request,
            pb.RecordRunbookExecutionResponse,
            lambda change: runbook_executions.record(change, messages.new_execution(request)),
            messages.execution_recorded,
        )

    async def ListRunbookExecutions(
        self, request: pb.ListRunbookExecutionsRequest, _: Context
    ) -> pb.ListRunbookExecutionsResponse:
        """Return a page of executions."""
        wanted = messages.execution_choice(request)
        page = await runbook_executions.page(self._db, wanted, self._paging.wanted(request))
        return pb.ListRunbookExecutionsResponse(
            executions=map(messages.execution, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def SuggestRunbooks(
        self, request: pb.SuggestRunbooksRequest, _: Context
    ) -> pb.SuggestRunbooksResponse:
        """Suggest runbooks."""
        found = await runbook_executions.suggest(self._db, messages.occasion(request))
        return pb.SuggestRunbooksResponse(suggestions=map(messages.suggestion, found))
