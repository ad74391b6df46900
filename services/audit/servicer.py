"""The RPCs of the audit service: convert, call, convert."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from release_manager.audit.v1 import audit_pb2 as pb
from release_manager.audit.v1 import audit_pb2_grpc

from services.audit import messages, messages_follow, messages_proofs
from services.audit.appending.ledger import Ledger
from services.audit.appending.refusals import Refusals
from services.audit.appending.traces import Traces
from services.audit.checking.verification import Verification
from services.audit.exporting.export import Chunk, ExportQuery, Exports
from services.audit.reading.entries import PageQuery, Reading
from services.audit.reading.following import Batch, Following, FollowQuery
from services.audit.reading.searching import Entry
from services.audit.rules.tiles import WIDTH, TileKey
from services.audit.signing.integrator import Integrator
from services.audit.signing.ledger_key import Keys
from services.audit.signing.proofs import Proofs
from services.audit.store.people import People
from services.audit.store.queries import Filter
from shared.errors import EntryRetired
from shared.identity.actor import caller, current_call
from shared.rpc.interceptors.around import Context
from shared.rpc.permission import while_permitted


@dataclass(frozen=True, slots=True)
class Integrity:
    """What proves the ledger: proofs, the verification, the keys, and who makes checkpoints."""

    proofs: Proofs
    verification: Verification
    keys: Keys
    integrator: Integrator

    @property
    def seen(self) -> pb.Checkpoint | None:
        """The newest checkpoint that this process knows, for callers to keep."""
        return messages_proofs.seen(self.integrator.newest)


@dataclass(frozen=True, slots=True)
class Watch:
    """What keeps an eye on callers: who reads leaves a trace, who is refused is noted."""

    traces: Traces
    refusals: Refusals


class AuditServicer(audit_pb2_grpc.AuditServiceServicer):
    """Appends to, reads, exports and proves the ledger."""

    def __init__(  # noqa: PLR0913  (what it calls)
        self,
        *,
        ledger: Ledger,
        reading: Reading,
        exports: Exports,
        following: Following,
        people: People,
        integrity: Integrity,
        watch: Watch,
        stopping: asyncio.Event,
    ) -> None:
        """Take the operations, and what is set when the server stops."""
        self._ledger = ledger
        self._reading = reading
        self._exports = exports
        self._following = following
        self._people = people
        self._integrity = integrity
        self._traces = watch.traces
        self._refusals = watch.refusals
        self._stopping = stopping

    async def LogAction(self, request: pb.LogActionRequest, _: Context) -> pb.LogActionResponse:
        """Append one entry, and prove it if asked to."""
        outcome = await self._ledger.log(caller(), messages.new_event(request.event))
        if outcome.duplicate:
            stored = await self._reading.by_id(outcome.place.audit_log_id)
            answer = pb.LogActionResponse(audit_log=messages.entry(stored), deduplicated=True)
        else:
            answer = pb.LogActionResponse(audit_log=messages.logged(outcome, request.event))
        if request.wait_for == pb.WAIT_FOR_INTEGRATED:
            answer.proof.CopyFrom(await self._inclusion(outcome.place.leaf_index))
        self._witnessed(answer)
        return answer

    async def LogActions(self, request: pb.LogActionsRequest, _: Context) -> pb.LogActionsResponse:
        """Append a batch of entries."""
        events = [messages.new_event(event) for event in request.events]
        outcomes = await self._ledger.log_all(caller(), events)
        await self._refusals.among(outcomes)
        answer = messages.results(outcomes)
        self._witnessed(answer)
        return answer

    async def GetAuditLog(
        self, request: pb.GetAuditLogRequest, _: Context
    ) -> pb.GetAuditLogResponse:
        """Return one entry."""
        if request.HasField("id"):
            found = await self._reading.by_id(UUID(request.id))
        else:
            found = await self._reading.by_leaf_index(request.leaf_index)
        await self._trace_of("read", found, found.leaf_index)
        return pb.GetAuditLogResponse(audit_log=messages.entry(found))

    async def ListAuditLogs(
        self, request: pb.ListAuditLogsRequest, _: Context
    ) -> pb.ListAuditLogsResponse:
        """Return a page of entries."""
        asked = PageQuery(
            method=current_call.get().method,
            caller=caller().user_id,
            wanted=await self._filter(request.filter),
            now=self._traces.now(),
            size=request.page_size,
            token=request.page_token,
            oldest_first=request.oldest_first,
            include_total=request.include_total,
        )
        found = await self._reading.page(asked)
        answer = messages.page(found)
        if found.is_news:
            given = messages_follow.asked(request)
            await self._traces.write("list", given | {"rows": len(answer.audit_logs)})
        return answer

    async def ExportAuditLogs(  # type: ignore[override]  # the stubs know generators only
        self, request: pb.ExportAuditLogsRequest, context: Context
    ) -> None:
        """Stream an export; written to the context, so that its end is not a generator's."""
        asked = ExportQuery(
            method=current_call.get().method,
            caller=caller().user_id,
            wanted=await self._filter(request.filter),
            form=messages.FORMS[request.format],
            user=request.filter.user,
            resume_token=request.resume_token,
        )

        async with self._traces.session("export", messages_follow.asked(request)) as session:

            async def send(chunk: Chunk) -> None:
                session.rows = chunk.rows or session.rows
                if chunk.complete:
                    await session.end("COMPLETE", tree_size=chunk.tree_size)
                await context.write(messages.chunk(chunk))

            await while_permitted(self._stopping, self._exports.run(asked, send))

    async def FollowAuditLogs(  # type: ignore[override]  # the stubs know generators only
        self, request: pb.FollowAuditLogsRequest, context: Context
    ) -> None:
        """Stream entries as they come; written to the context, as an export is."""
        asked = FollowQuery(
            caller=caller().user_id,
            wanted=await self._filter(request.filter),
            from_index=request.from_index if request.HasField("from_index") else None,
            only_signed=request.only_signed,
        )
        given = messages_follow.asked(request)
        with self._following.slots.taken(asked.caller):
            async with self._traces.session("follow", given) as session:

                async def send(batch: Batch) -> None:
                    session.rows += len(batch.entries)
                    session.details["next_index"] = batch.next_index
                    await context.write(messages_follow.followed(batch))

                await while_permitted(self._stopping, self._following.run(asked, send))

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
        return messages_proofs.checkpoint(newest, self._integrity.keys.ring)

    async def GetInclusionProof(
        self, request: pb.GetInclusionProofRequest, _: Context
    ) -> pb.GetInclusionProofResponse:
        """Prove an entry."""
        leaf_index, found = request.leaf_index, None
        if request.HasField("id"):
            leaf_index = await self._reading.position(UUID(request.id))
        with suppress(EntryRetired):  # which can be proved nevertheless
            found = await self._reading.by_leaf_index(leaf_index)
        if request.tree_size:
            # The trace is an entry too: written before, it could be what makes the ledger reach
            # the size that is asked for.
            proof = await self._inclusion(leaf_index, request.tree_size)
            await self._trace_of("prove", found, leaf_index)
        else:
            proof = await self._inclusion_beside_trace(leaf_index, found)
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
        """Verify everything or a range; written to the context, as an export is."""
        given = messages_follow.asked(request)
        async with self._traces.session("verify", given, needed=False) as session:

            async def work() -> None:
                run = self._integrity.verification.run(
                    request.known_checkpoint, request.first_index, request.end_index
                )
                async for made in run:
                    answer = messages_proofs.progress(made)
                    session.rows = answer.verified
                    if answer.verdict:
                        session.details["verdict"] = pb.LedgerVerdict.Name(answer.verdict)
                    await context.write(answer)

            await while_permitted(self._stopping, work())

    def _witnessed(self, answer: pb.LogActionResponse | pb.LogActionsResponse) -> None:
        """Let whoever appends see the newest checkpoint."""
        newest = self._integrity.seen
        if newest is not None:
            answer.checkpoint.CopyFrom(newest)

    async def _trace_of(self, action: str, found: Entry | None, leaf_index: int) -> None:
        """Write who reads an entry, unless it is about the caller alone."""
        details = {"leaf_index": leaf_index}
        if found is None:
            await self._traces.write(action, details)
        elif found.user_id != caller().user_id:
            await self._traces.write(action, details, str(found.id))

    async def _inclusion_beside_trace(
        self, leaf_index: int, found: Entry | None
    ) -> pb.InclusionProof:
        """Make a proof while its trace is written; there is a trace also when that fails."""
        proving = asyncio.create_task(self._inclusion(leaf_index))
        try:
            await self._trace_of("prove", found, leaf_index)
        except BaseException:
            proving.cancel()
            await asyncio.gather(proving, return_exceptions=True)
            raise
        return await proving

    async def _inclusion(self, leaf_index: int, tree_size: int = 0) -> pb.InclusionProof:
        made = await self._integrity.proofs.inclusion(leaf_index, tree_size)
        return messages_proofs.inclusion(made)

    async def _filter(self, wanted: pb.AuditLogFilter) -> Filter:
        user_id = await self._people.one(wanted.user) if wanted.user else None
        return messages.new_filter(wanted, user_id)
