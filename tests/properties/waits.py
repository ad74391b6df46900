"""Whether every wait has an end: a deadline, somebody who is named, or a queue that moves.

Asked of what callers are told, because an end that nobody can see helps nobody.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from release_manager.deployment.v1 import deployment_pb2 as pb

from tests.support.deployments import PEOPLE

ENDLESS: Final = "waits for something that has no end"
CIRCLE: Final = "wait for one another in a circle"
NO_DEADLINE: Final = "runs, is paused or stops without a deadline"

_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# Gates that open when others do something, which the remedy says, and the requester can ask for.
_BY_REMEDY: Final = frozenset({"release", "promotion_order", "soak", "dependency", "freeze"})


def judged_waits(open_ones: Sequence[pb.Deployment]) -> list[str]:
    """Return what is wrong with the waits of deployments that have not ended."""
    known = {one.id: one for one in open_ones}
    wrong = [what for one in open_ones for what in _waits(one, known)]
    graph = {one.id: _waits_for(one) & known.keys() for one in open_ones}
    wrong += [f"{CIRCLE}: {start}" for start in graph if _comes_back(graph, start)]
    return wrong


def _waits(one: pb.Deployment, known: Mapping[str, pb.Deployment]) -> Iterator[str]:
    if one.status != pb.DEPLOYMENT_STATUS_PENDING:
        if not one.HasField("deadline"):
            yield f"{NO_DEADLINE}: {one.id}"
        return
    if one.HasField("decide_by") or one.HasField("start_by"):
        return
    if not one.blockers and not one.deployed_by:
        yield f"{ENDLESS}: {one.id} could start, and nobody is named"
    for blocker in one.blockers:
        if not _ends(one, blocker, known):
            yield f"{ENDLESS}: {one.id}, {blocker.gate}: {blocker.reason}"


def _ends(one: pb.Deployment, blocker: pb.Blocker, known: Mapping[str, pb.Deployment]) -> bool:
    if blocker.people or blocker.HasField("earliest"):
        return True
    said = f"{blocker.reason} {blocker.remedy}"
    if blocker.gate in ("slot", "queue"):
        before = set(_ID.findall(said)) - {one.id}
        return bool(before) and before <= known.keys()
    if blocker.gate == "lock":
        return any(name in blocker.reason for name in PEOPLE)
    return blocker.gate in _BY_REMEDY and bool(blocker.remedy) and bool(one.deployed_by)


def _waits_for(one: pb.Deployment) -> set[str]:
    """Return the deployments that must do something before this one can."""
    if one.status != pb.DEPLOYMENT_STATUS_PENDING:
        return set()
    said = [f"{each.reason} {each.remedy}" for each in one.blockers if each.gate in _IN_LINE]
    return {found for text in said for found in _ID.findall(text)} - {one.id}


_IN_LINE: Final = frozenset({"slot", "queue"})


def _comes_back(graph: Mapping[str, set[str]], start: str) -> bool:
    """Say whether whoever follows what is waited for comes back to where they began."""
    seen: set[str] = set()
    ahead = list(graph[start])
    while ahead:
        here = ahead.pop()
        if here == start:
            return True
        if here not in seen:
            seen.add(here)
            ahead += graph[here]
    return False
