"""What services need of one another: a graph without circles."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID


def circle(needs: Mapping[UUID, Iterable[UUID]], start: UUID) -> Sequence[UUID]:
    """Return the shortest way from a service along what it needs back to itself, or nothing."""
    came_from: dict[UUID, UUID] = {}
    at_hand = [start]
    for service in at_hand:
        for needed in needs.get(service, ()):
            if needed == start:
                way = [service]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return [*reversed(way), start]
            if needed not in came_from:
                came_from[needed] = service
                at_hand.append(needed)
    return ()
