"""The RPCs of the audit service: convert, call, convert."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from grpc.aio import ServicerContext
from release_manager.audit.v1 import audit_pb2 as pb
from release_manager.audit.v1 import audit_pb2_grpc

from services.audit import messages, messages_proofs
from services.audit.export import Chunk, ExportQuery, Exports
from services.audit.ledger import Ledger
from services.audit.proofs import Proofs
from services.audit.reading import PageQuery, Reading
from services.audit.rules.note import Verifier
from services.audit.rules.tiles import WIDTH, TileKey
from services.audit.store.people import People
from services.audit.store.queries import Filter
from services.audit.verify import Verification
from shared.identity.actor import caller, current_call
from shared.rpc.stopping import unless_stopping

Context = ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Integrity:
    """What proves the ledger: proofs, the verification, and the key that signs."""

    proofs: Proofs
    verification: Verification
    verifier: Verifier


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Appends to, reads, exports and proves the ledger."""

    def __init__(  # noqa: PLR0913  (what it calls)
        self,
        *,
        ledger: Ledger,
        reading: Reading,
        exports: Exports,
        people: People,
        integrity: Integrity,
        stopping: asyncio.Event,
    ) -> None:
        """Take the operations, and what is set when the server stops."""
        self._ledger = ledger
        self._reading = reading
        self._exports = exports
        self._people = people
        self._integrity = integrity
        self._stopping = stopping

    async def LogAction(self, request: pb.LogActionRequest, _: Context) -> pb.LogActionResponse:
        """Append one entry, and prove it if asked to."""
        outcome = await self._ledger.log(caller(), messages.new_event(request.event))
        if outcome.duplicate:
            stored = await self._reading.by_id(outcome.place.audit_log_id)
            answer = pb.LogActionResponse(audit_log=messages.entry(stored), deduplicated=True)
        else:
            answer = pb.LogActionResponse(audit_log=messages.logged(outcome))
        if request.wait_for == pb.WAIT_FOR_INTEGRATED:
            answer.proof.CopyFrom(await self._inclusion(outcome.place.leaf_index))
        return answer

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

    async def GetCheckpoint(
        self, _request: pb.GetCheckpointRequest, _: Context
    ) -> pb.GetCheckpointResponse:
        """Return the newest checkpoint."""
        newest = await self._integrity.proofs.newest()
        return messages_proofs.checkpoint(newest, self._integrity.verifier)

    async def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, _: Context
    ) -> pb.GetInclusionProofResponse:
        """Prove an entry."""
        leaf_index = request.leaf_index
        if request.HasField("id"):
            leaf_index = (await self._reading.by_id(UUID(request.id))).leaf_index
        proof = await self._inclusion(leaf_index, request.tree_size)
        return pb.GetInclusionProofResponse(proof=proof)

    async def GetConsistencyProof(
        self, request: pb.GetConsistencyProofRequest, _: Context
    ) -> pb.GetConsistencyProofResponse:
        """Prove that one tree begins with another."""
        made = await self._integrity.proofs.consistency(request.from_size, request.to_size)
        return messages_proofs.consistency(made)

    async def GetTile(self, request: pb.GetTileRequest, _: Context) -> pb.GetTileResponse:
        """Return a tile."""
        key = TileKey(request.level, request.tile)
        hashes = await self._integrity.proofs.tile(key, request.width or WIDTH)
        return pb.GetTileResponse(hashes=hashes)

    async def VerifyLedger(  # type: ignore[override]  # the stubs know generators only
        self, request: pb.VerifyLedgerRequest, context: Context
    ) -> None:
        """Verify everything; written to the context, as an export is."""

        async def work() -> None:
            async for made in self._integrity.verification.run(request.known_checkpoint):
                await context.write(messages_proofs.progress(made))

        await unless_stopping(self._stopping, work())

    async def _inclusion(self, leaf_index: int, tree_size: int = 0) -> pb.InclusionProof:
        made = await self._integrity.proofs.inclusion(leaf_index, tree_size)
        return messages_proofs.inclusion(made)

    async def _filter(self, wanted: pb.AuditLogFilter) -> Filter:
        user_id = await self._people.one(wanted.user) if wanted.user else None
        return messages.new_filter(wanted, user_id)
