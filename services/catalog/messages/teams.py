"""Between the messages of teams and the values of this service."""

from release_manager.catalog.v1 import catalog_pb2 as pb

from services.catalog.messages.times import timestamp
from services.catalog.operations.changing import Update
from services.catalog.operations.teams import NewTeam
from services.catalog.rules.resources import Team
from services.catalog.store.reading import Listing
from shared.rpc.masks import changed_fields


def new_team(request: pb.CreateTeamRequest) -> NewTeam:
    """Return the team that a request describes."""
    return NewTeam(name=request.name, description=request.description)


def team_update(request: pb.UpdateTeamRequest) -> Update:
    """Return what a request asks to change; raises ValidationFailed for its mask."""
    return Update(request.team, changed_fields(request, required=("name",)), request.etag)


def listing(request: pb.ListTeamsRequest) -> Listing:
    """Return which teams a request asks for."""
    return Listing(request.filter, request.order_by, request.show_archived)


def team(value: Team) -> pb.Team:
    """Return a team as a message."""
    return pb.Team(
        id=str(value.id),
        name=value.name,
        description=value.description,
        etag=str(value.row_version),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
        archived_at=timestamp(value.archived_at),
    )


def team_created(value: Team) -> pb.CreateTeamResponse:
    """Return the answer to a new team."""
    return pb.CreateTeamResponse(team=team(value))


def team_updated(value: Team) -> pb.UpdateTeamResponse:
    """Return the answer to a change."""
    return pb.UpdateTeamResponse(team=team(value))


def team_archived(value: Team) -> pb.ArchiveTeamResponse:
    """Return the answer to archiving."""
    return pb.ArchiveTeamResponse(team=team(value))


def team_unarchived(value: Team) -> pb.UnarchiveTeamResponse:
    """Return the answer to taking out of the archive."""
    return pb.UnarchiveTeamResponse(team=team(value))


def team_deleted(_: None) -> pb.DeleteTeamResponse:
    """Return the answer to a deletion."""
    return pb.DeleteTeamResponse()
