"""The RPC of the figures of DORA: convert, call, convert."""

from release_manager.deployment.v1 import insights_pb2 as pb

from services.deployment import messages_insights as messages
from services.deployment.operations import dora
from shared.outbox.rpcs import Context, Rpcs


class DoraRpcs(Rpcs):
    """Tells how often, how fast and how safely software is delivered."""

    async def GetDoraMetrics(
        self, request: pb.GetDoraMetricsRequest, _: Context
    ) -> pb.GetDoraMetricsResponse:
        """Return the four figures."""
        found = await dora.figures(self._db, messages.wanted(request))
        return messages.figures(found, request.max_evidence)
