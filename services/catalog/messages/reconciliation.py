"""What a comparison with the ledger found, as a message."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from shared.outbox.reconcile import Reconciliation


def reconciled(value: Reconciliation) -> pb.ReconcileAuditResponse:
    """Return what a comparison with the ledger found."""
    return pb.ReconcileAuditResponse(
        aggregates=value.aggregates,
        missing=value.missing,
        resent=value.resent,
        missing_aggregates=value.missing_aggregates,
    )
