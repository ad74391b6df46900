"""The RPCs of teams: convert, call, convert."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages import teams as messages
from services.catalog.operations import teams
from shared.outbox.rpcs import Context, Rpcs


class TeamRpcs(Rpcs):
    """Manages teams."""

    async def CreateTeam(self, request: pb.CreateTeamRequest, _: Context) -> pb.CreateTeamResponse:
        """Create a team."""
        return await self._changes.answer(
            request,
            pb.CreateTeamResponse,
            lambda change: teams.create(change, messages.new_team(request)),
            messages.team_created,
        )

    async def GetTeam(self, request: pb.GetTeamRequest, _: Context) -> pb.GetTeamResponse:
        """Return a team."""
        found = await teams.get(self._db, request.team)
        return pb.GetTeamResponse(team=messages.team(found))

    async def BatchGetTeams(
        self, request: pb.BatchGetTeamsRequest, _: Context
    ) -> pb.BatchGetTeamsResponse:
        """Return several teams."""
        found = await teams.each(self._db, request.teams)
        return pb.BatchGetTeamsResponse(teams=map(messages.team, found))

    async def ListTeams(self, request: pb.ListTeamsRequest, _: Context) -> pb.ListTeamsResponse:
        """Return a page of teams."""
        wanted = messages.listing(request)
        page = await teams.page(self._db, wanted, self._paging.wanted(request))
        return pb.ListTeamsResponse(
            teams=map(messages.team, page.entries),
            next_page_token=self._paging.next_token(request, page),
        )

    async def UpdateTeam(self, request: pb.UpdateTeamRequest, _: Context) -> pb.UpdateTeamResponse:
        """Change a team."""
        wanted = messages.team_update(request)
        return await self._changes.answer(
            request,
            pb.UpdateTeamResponse,
            lambda change: teams.update(change, wanted),
            messages.team_updated,
        )

    async def ArchiveTeam(
        self, request: pb.ArchiveTeamRequest, _: Context
    ) -> pb.ArchiveTeamResponse:
        """Archive a team."""
        return await self._changes.answer(
            request,
            pb.ArchiveTeamResponse,
            lambda change: teams.archive(change, request.team, request.etag),
            messages.team_archived,
        )

    async def UnarchiveTeam(
        self, request: pb.UnarchiveTeamRequest, _: Context
    ) -> pb.UnarchiveTeamResponse:
        """Take a team out of the archive."""
        return await self._changes.answer(
            request,
            pb.UnarchiveTeamResponse,
            lambda change: teams.unarchive(change, request.team, request.etag),
            messages.team_unarchived,
        )

    async def DeleteTeam(self, request: pb.DeleteTeamRequest, _: Context) -> pb.DeleteTeamResponse:
        """Delete a team."""
        return await self._changes.answer(
            request,
            pb.DeleteTeamResponse,
            lambda change: teams.delete(change, request.team, request.etag),
            messages.team_deleted,
        )
