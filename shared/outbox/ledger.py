"""The audit service as the relay, the reconciler and the witness of another service see it."""

from collections.abc import Mapping, Sequence

from release_manager.audit.v1 import audit_pb2, audit_pb2_grpc

ASK_TIMEOUT_S = 10.0


class Ledger:
    """Sends events to the audit service and asks what it holds, over one channel."""

    def __init__(self, stub: "audit_pb2_grpc.AuditServiceAsyncStub") -> None:
        """Use a stub whose channel carries the service's own credentials."""
        self._stub = stub
        self._seen: audit_pb2.Checkpoint | None = None

    async def send(
        self, events: Sequence[audit_pb2.AuditEvent], timeout_s: float
    ) -> Sequence[audit_pb2.AppendResult]:
        """Append a batch, in order; one result per event."""
        request = audit_pb2.LogActionsRequest(events=events)
        response = await self._stub.LogActions(request, timeout=timeout_s)
        if response.HasField("checkpoint"):
            self._seen = response.checkpoint
        return response.results

    def take_seen(self) -> audit_pb2.Checkpoint | None:
        """Return the last checkpoint that came with an answer since this was asked before."""
        seen, self._seen = self._seen, None
        return seen

    async def checkpoint(self) -> audit_pb2.Checkpoint:
        """Return the newest checkpoint."""
        request = audit_pb2.GetCheckpointRequest()
        response = await self._stub.GetCheckpoint(request, timeout=ASK_TIMEOUT_S)
        return response.checkpoint

    async def consistency(self, old: int, new: int) -> Sequence[bytes]:
        """Return the proof that the tree of `new` entries begins with that of `old`.

        Raises PositionOutOfRange when there are not so many.
        """
        request = audit_pb2.GetConsistencyProofRequest(from_size=old, to_size=new)
        response = await self._stub.GetConsistencyProof(request, timeout=ASK_TIMEOUT_S)
        return response.hashes

    async def sequences(self, aggregates: Sequence[str]) -> Mapping[str, int]:
        """Return the highest complete sequence of each aggregate, at most 1,000 at a time."""
        request = audit_pb2.GetAggregateSequencesRequest(aggregates=aggregates)
        response = await self._stub.GetAggregateSequences(request, timeout=ASK_TIMEOUT_S)
        return response.sequences
