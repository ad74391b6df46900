"""How what is live of a service in two environments relates."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Relation(StrEnum):
    """How one environment compares with another: by when their releases were published."""

    SAME = "same"
    AHEAD = "ahead"
    BEHIND = "behind"
    ONLY_HERE = "only_here"
    ONLY_THERE = "only_there"
    NEITHER = "neither"


@dataclass(frozen=True, slots=True)
class Published:
    """A release and when it was published; what is live was."""

    id: UUID
    at: datetime


def relation(here: Published | None, there: Published | None) -> Relation:
    """Return how the release that is live here relates to the one that is live there.

    Of two releases published at the same moment the one with the higher id counts as the later.
    """
    if here is None or there is None:
        if here is not None:
            return Relation.ONLY_HERE
        return Relation.NEITHER if there is None else Relation.ONLY_THERE
    if here.id == there.id:
        return Relation.SAME
    return Relation.AHEAD if (here.at, here.id) > (there.at, there.id) else Relation.BEHIND
