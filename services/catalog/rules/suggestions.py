"""Which runbooks may help, and why: what they are for, and how they have served so far."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from services.catalog.rules.resources import Runbook

MOST_SUGGESTED = 10


@dataclass(frozen=True, slots=True)
class Situation:
    """What has happened: to which service, in which environment and stage, as far as is known."""

    service: str
    environment: str | None
    stage: str | None


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A runbook that may help, why, and how many of its last executions succeeded."""

    runbook: Runbook
    because: str
    successes: int
    executions: int


def ranked(
    situation: Situation,
    runbooks: Iterable[Runbook],
    recent: Mapping[UUID, tuple[int, int]],
) -> list[Suggestion]:
    """Return the published runbooks that fit best, the best first.

    Those with the tag of the stage come before others, those of the environment before those of
    all, those that have succeeded more often before others; then by title. `recent` has, by
    runbook, how many of the last executions succeeded, and how many there were.
    """
    usable = [one for one in runbooks if one.version > 0 and one.archived_at is None]
    usable.sort(
        key=lambda one: (
            situation.stage not in one.tags,
            one.environment_id is None,
            -_success_rate(*recent.get(one.id, (0, 0))),
            one.title.lower(),
        )
    )
    return [
        Suggestion(one, _because(situation, one), *recent.get(one.id, (0, 0)))
        for one in usable[:MOST_SUGGESTED]
    ]


def _success_rate(successes: int, executions: int) -> float:
    """Return how likely it is to help, one half for one that was never tried (Laplace)."""
    return (successes + 1) / (executions + 2)


def _because(situation: Situation, runbook: Runbook) -> str:
    where = runbook.environment or "every environment"
    tagged = situation.stage is not None and situation.stage in runbook.tags
    about = f" and has the tag of the stage, {situation.stage}" if tagged else ""
    return f"It is for {situation.service} in {where}{about}."
