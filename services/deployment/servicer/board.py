"""The RPCs that tell what runs where: convert, call, convert."""

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment import messages_board as messages
from services.deployment.messages_times import moment
from services.deployment.operations import board, difference
from shared.outbox.rpcs import Context, Rpcs


class BoardRpcs(Rpcs):
    """Shows services in environments, and compares environments."""

    async def GetEnvironmentStatus(
        self, request: pb.GetEnvironmentStatusRequest, _: Context
    ) -> pb.GetEnvironmentStatusResponse:
        """Return one cell of the board."""
        as_of = moment(request, "as_of")
        found = await board.cell(self._db, request.service, request.environment, as_of)
        return messages.one_status(found)

    async def ListEnvironmentStatuses(
        self, request: pb.ListEnvironmentStatusesRequest, _: Context
    ) -> pb.ListEnvironmentStatusesResponse:
        """Return a page of the board."""
        query = messages.board_query(request, self._paging.wanted(request))
        found = await board.cells(self._db, query)
        return messages.board(found, self._paging.next_token(request, found.cells))

    async def DiffEnvironments(
        self, request: pb.DiffEnvironmentsRequest, _: Context
    ) -> pb.DiffEnvironmentsResponse:
        """Return a page of what differs."""
        query = messages.difference_query(request, self._paging.wanted(request))
        found = await difference.differences(self._db, query)
        return messages.differences(found, self._paging.next_token(request, found.services))
