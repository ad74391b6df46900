"""CatalogService: the RPCs of all kinds of resources, and the comparison with the ledger."""

from release_manager.catalog.v1 import catalog_pb2 as pb
from release_manager.catalog.v1 import catalog_pb2_grpc

from services.catalog.messages.reconciliation import reconciled
from services.catalog.servicer.environments import EnvironmentRpcs
from services.catalog.servicer.releases import ReleaseRpcs
from services.catalog.servicer.runbook_executions import RunbookExecutionRpcs
from services.catalog.servicer.runbooks import RunbookRpcs
from services.catalog.servicer.services import ServiceRpcs
from services.catalog.servicer.teams import TeamRpcs
from shared.db.engine import Database
from shared.outbox.change import Changes
from shared.outbox.reconcile import Reconciler
from shared.outbox.rpcs import Context
from shared.rpc.pages import Paging


class CatalogServicer(
    TeamRpcs,
    ServiceRpcs,
    EnvironmentRpcs,
    ReleaseRpcs,
    RunbookRpcs,
    RunbookExecutionRpcs,
    catalog_pb2_grpc.CatalogServiceServicer,
):
    """Manages teams, services, environments, releases and runbooks."""

    def __init__(
        self, db: Database, changes: Changes, paging: Paging, reconciler: Reconciler
    ) -> None:
        """Read from `db`, change through `changes`."""
        super().__init__(db, changes, paging)
        self._reconciler = reconciler

    async def ReconcileAudit(
        self, _request: pb.ReconcileAuditRequest, _: Context
    ) -> pb.ReconcileAuditResponse:
        """Compare every version with the ledger and send again what is missing."""
        return reconciled(await self._reconciler.reconcile())
