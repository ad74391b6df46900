"""DeploymentService: the RPCs of all kinds of resources, and the comparison with the ledger."""

from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import deployment_pb2_grpc

from services.deployment.messages_answers import reconciled
from services.deployment.servicer.board import BoardRpcs
from services.deployment.servicer.deployments import DeploymentRpcs
from services.deployment.servicer.explaining import ExplainingRpcs
from services.deployment.servicer.marks import MarkRpcs
from services.deployment.servicer.policies import PolicyRpcs
from services.deployment.servicer.reading import ReadingRpcs
from services.deployment.servicer.watching import Watch, WatchingRpcs
from shared.db.engine import Database
from shared.outbox.change import Changes
from shared.outbox.reconcile import Reconciler
from shared.outbox.rpcs import Context
from shared.rpc.pages import Paging


class DeploymentServicer(  # type: ignore[misc]  # the stubs know generators only
    DeploymentRpcs,
    ReadingRpcs,
    BoardRpcs,
    ExplainingRpcs,
    PolicyRpcs,
    MarkRpcs,
    WatchingRpcs,
    deployment_pb2_grpc.DeploymentServiceServicer,
):
    """Deploys, approves, drives, rolls back, and tells what runs where and under which rules."""

    def __init__(
        self,
        db: Database,
        changes: Changes,
        paging: Paging,
        reconciler: Reconciler,
        watch: Watch,
    ) -> None:
        """Read from `db`, change through `changes`, serve watchers by `watch`."""
        super().__init__(db, changes, paging)
        self._reconciler = reconciler
        self._watch = watch

    async def ReconcileAudit(
        self, _request: pb.ReconcileAuditRequest, _: Context
    ) -> pb.ReconcileAuditResponse:
        """Compare every version with the ledger and send again what is missing."""
        return reconciled(await self._reconciler.reconcile())
