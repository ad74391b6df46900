"""What services need: every circle is found, and nothing else is called one."""

from itertools import pairwise
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from services.catalog.rules.dependencies import circle

IDS = [UUID(int=number) for number in range(6)]
GRAPHS = st.dictionaries(st.sampled_from(IDS), st.lists(st.sampled_from(IDS), max_size=4))


def reachable(needs: dict[UUID, list[UUID]], start: UUID) -> set[UUID]:
    """Return everything that a service needs, in however many steps."""
    found: set[UUID] = set()
    for _step in IDS:
        found |= {one for at in {start, *found} for one in needs.get(at, [])}
    return found


@given(GRAPHS, st.sampled_from(IDS))
def test_a_circle_is_a_way_back_and_is_found_if_there_is_one(
    needs: dict[UUID, list[UUID]], start: UUID
) -> None:
    way = circle(needs, start)
    assert bool(way) == (start in reachable(needs, start))
    assert all(there in needs[here] for here, there in pairwise(way))
    assert not way or (way[0] == way[-1] == start)
