"""The audit service as the relay and the reconciler of another service see it."""

from collections.abc import Mapping, Sequence

from release_manager.audit.v1 import audit_pb2, audit_pb2_grpc

ASK_TIMEOUT_S = 10.0


class Ledger:
    """Sends events to the audit service and asks what it holds, over one channel."""

    def __init__(self, stub: "audit_pb2_grpc.AuditServiceAsyncStub") -> None:
        """Use a stub whose channel carries the service's own credentials."""
        self._stub = stub

    async def send(
        self, events: Sequence[audit_pb2.AuditEvent], timeout_s: float
    ) -> Sequence[audit_pb2.AppendResult]:
        """Append a batch, in order; one result per event."""
        request = audit_pb2.LogActionsRequest(events=events)
        response = await self._stub.LogActions(request, timeout=timeout_s)
        return response.results

    async def sequences(self, aggregates: Sequence[str]) -> Mapping[str, int]:
        """Return the highest complete sequence of each aggregate, at most 1,000 at a time."""
        request = audit_pb2.GetAggregateSequencesRequest(aggregates=aggregates)
        response = await self._stub.GetAggregateSequences(request, timeout=ASK_TIMEOUT_S)
        return response.sequences
