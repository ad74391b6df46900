"""The board and the comparison of environments, from and to messages of `deployment.v1`."""

from typing import Any, Final
from uuid import UUID

from release_manager.deployment.v1 import deployment_pb2 as pb

from services.deployment import messages_enums as enums
from services.deployment.messages_ids import id_text
from services.deployment.messages_times import moment, timestamp
from services.deployment.operations.board import Board, BoardQuery, Cell, Moment
from services.deployment.operations.difference import Difference, DifferenceQuery, Differences
from services.deployment.rules.board import PairState
from services.deployment.rules.freeze_outlook import Outlook
from services.deployment.rules.freezes import FreezeStatus, Hold
from services.deployment.rules.history import Deployed
from services.deployment.rules.lifecycle import HOLDS_SLOT
from services.deployment.rules.locks import place
from services.deployment.store.lock_rows import LockRow
from shared.db.keyset import PageRequest

MOST: Final = 20


def board_query(request: pb.ListEnvironmentStatusesRequest, page: PageRequest) -> BoardQuery:
    """Return which part of the board a request asks for."""
    return BoardQuery(
        page=page,
        service=request.service,
        environment=request.environment,
        team=request.team,
        as_of=moment(request, "as_of"),
    )


def difference_query(request: pb.DiffEnvironmentsRequest, page: PageRequest) -> DifferenceQuery:
    """Return which comparison a request asks for."""
    return DifferenceQuery(
        page=page,
        environment=request.environment,
        compared_with=request.compared_with,
        service=request.service,
        team=request.team,
        as_of=moment(request, "as_of"),
    )


def board(value: Board, next_page_token: str) -> pb.ListEnvironmentStatusesResponse:
    """Answer ListEnvironmentStatuses."""
    shown = _Shown(value.moment)
    return pb.ListEnvironmentStatusesResponse(
        statuses=map(shown.status, value.cells.entries),
        next_page_token=next_page_token,
        as_of=timestamp(value.moment.at),
    )


def one_status(value: tuple[Cell, Moment]) -> pb.GetEnvironmentStatusResponse:
    """Answer GetEnvironmentStatus."""
    cell, told = value
    status = _Shown(told).status(cell)
    return pb.GetEnvironmentStatusResponse(status=status, as_of=timestamp(told.at))


def differences(value: Differences, next_page_token: str) -> pb.DiffEnvironmentsResponse:
    """Answer DiffEnvironments."""
    return pb.DiffEnvironmentsResponse(
        differences=[_difference(one, value.moment) for one in value.services.entries],
        next_page_token=next_page_token,
        as_of=timestamp(value.moment.at),
    )


class _Shown:
    """Statuses as messages; what several of them have in common is made once."""

    def __init__(self, told: Moment) -> None:
        self._told = told
        self._freezes: dict[int, pb.EnvironmentFreeze] = {}
        self._locks: dict[UUID, pb.EnvironmentLock] = {}

    def status(self, cell: Cell) -> pb.EnvironmentStatus:
        """Return a cell of the board."""
        names, state = cell.names, cell.state
        service, target = names.service, state.target or state.running
        found: dict[str, Any] = {}
        # What is given as empty takes as long as what is not.
        if (live := state.runs) is not None:
            found["live_release"] = f"{service}@{live.version}"
            found["live_deployment_id"] = str(live.id)
            found["live_since"] = timestamp(live.completed_at)
        if target is not None:
            found["target_release"] = f"{service}@{target.version}"
        if (running := state.running) is not None:
            found["running_deployment_id"] = str(running.id)
        if state.waiting:
            found["pending_deployment_ids"] = [str(one.id) for one in state.waiting[:MOST]]
        if (failure := state.last_failure) is not None:
            found["last_failed_deployment_id"] = str(failure.id)
            found["last_failed_release"] = f"{service}@{failure.version}"
            found["last_failure_at"] = timestamp(failure.completed_at)
        if cell.locks:
            found["locks"] = [self._lock(one) for one in cell.locks[:MOST]]
        if cell.freeze is not None:
            found["freeze"] = self._freeze(cell.freeze)
        return pb.EnvironmentStatus(
            service_id=str(names.service_id),
            service=service,
            environment_id=str(names.environment_id),
            environment=names.environment,
            health=enums.HEALTH[state.health],
            **found,
            **_on_the_way(service, state, self._told),
        )

    def _freeze(self, value: Outlook) -> pb.EnvironmentFreeze:
        made = self._freezes.get(id(value))
        if made is None:
            made = self._freezes[id(value)] = _freeze(value)
        return made

    def _lock(self, value: LockRow) -> pb.EnvironmentLock:
        made = self._locks.get(value.id)
        if made is None:
            made = self._locks[value.id] = _lock(value)
        return made


def _difference(value: Difference, told: Moment) -> pb.EnvironmentDifference:
    return pb.EnvironmentDifference(
        service_id=str(value.service_id),
        service=value.service,
        relation=enums.RELATION[value.relation],
        environment=_side(value.service, value.here, told),
        compared_with=_side(value.service, value.there, told),
        releases_between=[
            pb.ReleaseBetween(
                release_id=str(one.id),
                release=f"{value.service}@{one.version}",
                published_at=timestamp(one.published_at),
            )
            for one in value.between
        ],
        releases_between_count=value.between[0].count if value.between else 0,
    )


def _side(service: str, state: PairState, told: Moment) -> pb.EnvironmentSide:
    live = state.runs
    return pb.EnvironmentSide(
        live_release_id=id_text(live and live.release_id),
        live_release="" if live is None else f"{service}@{live.version}",
        live_deployment_id=id_text(live and live.id),
        live_since=None if live is None else timestamp(live.completed_at),
        **_on_the_way(service, state, told),
    )


def _on_the_way(service: str, state: PairState, told: Moment) -> dict[str, Any]:
    """Return the fields about what runs and waits, where there is such."""
    found: dict[str, Any] = {}
    if state.running is not None:
        found["running"] = _deployment(service, state.running, told)
    if state.waiting:
        found["pending"] = [_deployment(service, one, told) for one in state.waiting[:MOST]]
        found["pending_count"] = len(state.waiting)
    return found


def _deployment(service: str, value: Deployed, told: Moment) -> pb.EnvironmentDeployment:
    """Return a deployment on its way; what is not known of its status is not said."""
    unknown = told.past and value.status in HOLDS_SLOT
    return pb.EnvironmentDeployment(
        id=str(value.id),
        release=f"{service}@{value.version}",
        kind=enums.KIND[value.kind],
        status=pb.DEPLOYMENT_STATUS_UNSPECIFIED if unknown else enums.STATUS[value.status],
        deployed_at=timestamp(value.created_at),
        started_at=timestamp(value.started_at),
    )


def _lock(value: LockRow) -> pb.EnvironmentLock:
    return pb.EnvironmentLock(
        id=str(value.id),
        place=place(value.service, value.environment),
        reason=value.reason,
        locked_by=value.locked_by_name,
        locked_at=timestamp(value.created_at),
        expires_at=timestamp(value.expires_at),
        includes_rollbacks=value.includes_rollbacks,
    )


def _freeze(value: Outlook) -> pb.EnvironmentFreeze:
    frozen = value.freeze.status is FreezeStatus.FROZEN
    return pb.EnvironmentFreeze(
        frozen=frozen,
        windows=map(_window, value.freeze.by[:MOST]),
        opens_at=timestamp(value.freeze.earliest) if frozen else None,
        freezes_at=timestamp(value.next_at),
        freezes_by=value.next_by[:MOST],
    )


def _window(value: Hold) -> pb.EnvironmentFreezeWindow:
    window = value.window
    return pb.EnvironmentFreezeWindow(
        id=str(window.id), name=window.name, reason=window.reason, ends_at=timestamp(value.until)
    )
