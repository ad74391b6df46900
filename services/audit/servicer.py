"""The RPCs of the audit service: convert, call, convert."""

import asyncio
from typing import Any
from uuid import UUID

from grpc.aio import ServicerContext
from release_manager.audit.v1 import audit_pb2 as pb
from release_manager.audit.v1 import audit_pb2_grpc

from services.audit import messages
from services.audit.export import Chunk, ExportQuery, Exports
from services.audit.ledger import Ledger
from services.audit.reading import PageQuery, Reading
from services.audit.store.people import People
from services.audit.store.queries import Filter
from shared.identity.actor import caller, current_call
from shared.rpc.stopping import unless_stopping

Context = ServicerContext[Any, Any]


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Appends to, reads and exports the ledger."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        reading: Reading,
        exports: Exports,
        people: People,
        stopping: asyncio.Event,
    ) -> None:
        """Take the operations, and what is set when the server stops."""
        self._ledger = ledger
        self._reading = reading
        self._exports = exports
        self._people = people
        self._stopping = stopping

    async def LogAction(self, request: pb.LogActionRequest, _: Context) -> pb.LogActionResponse:
        """Append one entry."""
        outcome = await self._ledger.log(caller(), messages.new_event(request.event))
        if outcome.duplicate:
            stored = await self._reading.by_id(outcome.place.audit_log_id)
            return pb.LogActionResponse(audit_log=messages.entry(stored), deduplicated=True)
        return pb.LogActionResponse(audit_log=messages.logged(outcome))

    async def LogActions(self, request: pb.LogActionsRequest, _: Context) -> pb.LogActionsResponse:
        """Append a batch of entries."""
        events = [messages.new_event(event) for event in request.events]
        return messages.results(await self._ledger.log_all(caller(), events))

    async def GetAuditLog(
        self, request: pb.GetAuditLogRequest, _: Context
    ) -> pb.GetAuditLogResponse:
        """Return one entry."""
        if request.HasField("id"):
            found = await self._reading.by_id(UUID(request.id))
        else:
            found = await self._reading.by_leaf_index(request.leaf_index)
        return pb.GetAuditLogResponse(audit_log=messages.entry(found))

    async def ListAuditLogs(
        self, request: pb.ListAuditLogsRequest, _: Context
    ) -> pb.ListAuditLogsResponse:
        """Return a page of entries."""
        asked = PageQuery(
            method=current_call.get().method,
            caller=caller().user_id,
            wanted=await self._filter(request.filter),
            size=request.page_size,
            token=request.page_token,
            oldest_first=request.oldest_first,
            include_total=request.include_total,
        )
        return messages.page(await self._reading.page(asked))

    async def ExportAuditLogs(  # type: ignore[override]  # the stubs know generators only
        self, request: pb.ExportAuditLogsRequest, context: Context
    ) -> None:
        """Stream an export; written to the context, so that its end is not a generator's."""
        asked = ExportQuery(
            method=current_call.get().method,
            caller=caller().user_id,
            wanted=await self._filter(request.filter),
            spreadsheet=request.format == pb.EXPORT_FORMAT_CSV_SPREADSHEET,
            resume_token=request.resume_token,
        )

        async def send(chunk: Chunk) -> None:
            await context.write(messages.chunk(chunk))

        await unless_stopping(self._stopping, self._exports.run(asked, send))

    async def GetAggregateSequences(
        self, request: pb.GetAggregateSequencesRequest, _: Context
    ) -> pb.GetAggregateSequencesResponse:
        """Return the dense sequences of the caller's aggregates."""
        found = await self._reading.sequences(caller().username, request.aggregates)
        return pb.GetAggregateSequencesResponse(sequences=found)

    async def _filter(self, wanted: pb.AuditLogFilter) -> Filter:
        user_id = await self._people.one(wanted.user) if wanted.user else None
        return messages.new_filter(wanted, user_id)
