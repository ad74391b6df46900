"""Who of those that wait for a pair comes before whom, and who of them could start."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.deployment.rules.gates.asking import ready
from services.deployment.rules.gates.facts import NOTHING_BEFORE, GateFacts, Line


@dataclass(frozen=True, slots=True)
class Waiting:
    """A waiting deployment of a pair; one that is `outdated` can only be superseded."""

    id: UUID
    requested_at: datetime
    facts: GateFacts
    outdated: bool


def line_up(waiting: Iterable[Waiting], now: datetime) -> Mapping[UUID, Line]:
    """Return what is before each of the deployments that wait for one pair; rollbacks left out."""
    places: dict[UUID, Line] = {}
    before = NOTHING_BEFORE
    for one in sorted(waiting, key=lambda entry: (entry.requested_at, entry.id)):
        places[one.id] = before
        could = not one.outdated and ready(one.facts, now)
        before = Line(
            first=before.first or one.id,
            waiting=before.waiting + 1,
            first_ready=before.first_ready or (one.id if could else None),
            ready=before.ready + could,
        )
    return places
