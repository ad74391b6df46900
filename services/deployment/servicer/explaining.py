"""The RPCs that explain, plan and say what waits for whom: convert, call, convert."""

from typing import Final
from uuid import UUID

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment import messages_explaining as messages
from services.deployment import messages_resources as resources
from services.deployment.operations import explain, pending, planning
from shared.identity.access import AccessRules
from shared.identity.actor import caller
from shared.outbox.rpcs import Context, Rpcs
from shared.rpc.methods import methods_of

_SERVICE: Final = pb.DESCRIPTOR.services_by_name["DeploymentService"].full_name
_ACCESS: Final = AccessRules(methods_of([_SERVICE]))
_REQUEST: Final = f"/{_SERVICE}/PromoteRelease"


class ExplainingRpcs(Rpcs):
    """Says what would become of a call, by the same evaluation and without its effect."""

    async def ExplainDeployment(
        self, request: pb.ExplainDeploymentRequest, _: Context
    ) -> pb.ExplainDeploymentResponse:
        """Say what holds a deployment back."""
        found = await explain.deployment(self._db, UUID(request.deployment), caller())
        return messages.explained(found)

    async def ExplainPromotion(
        self, request: pb.ExplainPromotionRequest, _: Context
    ) -> pb.ExplainPromotionResponse:
        """Say what would become of a request by the caller."""
        actor = caller()
        found = await explain.request(
            self._db, messages.new_deployment(request), actor, _ACCESS.refusal(_REQUEST, actor)
        )
        return messages.promotion(found)

    async def PlanRollback(
        self, request: pb.PlanRollbackRequest, _: Context
    ) -> pb.PlanRollbackResponse:
        """Say where a rollback by the caller would go."""
        return messages.planned(
            await planning.look(self._db, messages.roll_back(request), caller())
        )

    async def ListPendingApprovals(
        self, request: pb.ListPendingApprovalsRequest, _: Context
    ) -> pb.ListPendingApprovalsResponse:
        """Return a page of what waits for a person."""
        query = messages.pending(request, self._paging.wanted(request))
        page = await pending.page(self._db, query, caller())
        return pb.ListPendingApprovalsResponse(
            deployments=map(resources.deployment, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )
