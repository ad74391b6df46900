"""What keeps deployments from starting in the pairs of the board: locks and freeze windows.

Everything is read once for a page and then looked up for each pair; what the same freeze windows
say is worked out once.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from services.deployment.operations.freeze_rows import window_of
from services.deployment.rules.freeze_outlook import Outlook, outlook
from services.deployment.rules.freezes import concerns_environment, concerns_service
from services.deployment.rules.policy import EnvironmentType
from services.deployment.store.board_rows import PairNames
from services.deployment.store.freezes import FreezeRow
from services.deployment.store.lock_rows import LockRow


class Locks:
    """The locks that hold at one moment, by what they lock."""

    def __init__(self, rows: Iterable[LockRow]) -> None:
        """Take rows in the order in which they are told."""
        self._rows = tuple(rows)
        self._by_place: dict[tuple[UUID | None, UUID | None], list[int]] = defaultdict(list)
        for number, row in enumerate(self._rows):
            self._by_place[row.service_id, row.environment_id].append(number)

    def of(self, names: PairNames) -> tuple[LockRow, ...]:
        """Return those that concern a pair."""
        if not self._rows:
            return ()
        service, environment = names.service_id, names.environment_id
        places = ((service, environment), (service, None), (None, environment), (None, None))
        found = [number for place in places for number in self._by_place.get(place, ())]
        return tuple(self._rows[number] for number in sorted(found))


class Freezes:
    """What freeze windows say at one moment, now or in the past.

    What they were in the past is known of those that have not been changed since, as long as the
    service and the environment have not, by which windows choose.
    """

    def __init__(self, rows: Sequence[FreezeRow], moment: datetime, *, past: bool) -> None:
        """Take all windows that could say something at that moment."""
        self._moment = moment
        self._past = past
        self._unchanged = not past or all(row.updated_at <= moment for row in rows)
        self._windows = tuple(window_of(row) for row in rows if row.archived_at is None)
        self._by_team = any(window.teams for window in self._windows)
        self._by_type = any(window.environment_types for window in self._windows)
        self._of_service: dict[UUID, frozenset[int]] = {}
        self._of_environment: dict[UUID, frozenset[int]] = {}
        self._said: dict[frozenset[int], Outlook] = {}

    def of(self, names: PairNames) -> Outlook | None:
        """Return what they say of a pair, None when that cannot be known."""
        if not self._unchanged or (self._past and self._has_changed(names)):
            return None
        covering = self._service(names) & self._environment(names)
        said = self._said.get(covering)
        if said is None:
            windows = tuple(self._windows[number] for number in sorted(covering))
            said = self._said[covering] = outlook(windows, self._moment)
        return said

    def _has_changed(self, names: PairNames) -> bool:
        by_team = self._by_team and names.service_changed_at > self._moment
        return by_team or (self._by_type and names.environment_changed_at > self._moment)

    def _service(self, names: PairNames) -> frozenset[int]:
        known = self._of_service.get(names.service_id)
        if known is None:
            known = self._of_service[names.service_id] = frozenset(
                number
                for number, window in enumerate(self._windows)
                if concerns_service(window, names.service_id, names.team_id)
            )
        return known

    def _environment(self, names: PairNames) -> frozenset[int]:
        known = self._of_environment.get(names.environment_id)
        if known is None:
            kind = EnvironmentType(names.environment_type)
            known = self._of_environment[names.environment_id] = frozenset(
                number
                for number, window in enumerate(self._windows)
                if concerns_environment(window, names.environment_id, kind)
            )
        return known
