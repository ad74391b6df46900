"""Ids that a caller puts in place of their own (OWASP ASVS 8.2.2, 8.4.1).

Every role may read all teams, services, releases and deployments; what belongs to one person alone
are sessions. So two things must hold. Of every method and every field that names something, a
random id and the id of something else are answered alike: same code, same reason, same sentence.
And somebody else's session is answered like one that never was, also in the time it takes (within a
fifth).
"""

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from shared.errors import ResourceNotFound
from shared.ids import new_id
from tests.rpc.catalog.identities import Identities
from tests.support.corpus import NAMING, Place, places
from tests.support.every_rpc import EveryRpc
from tests.support.platform import (
    DEPLOYMENT,
    IDENTITY,
    RESTRICTIONS,
    Platform,
    product_methods,
)
from tests.support.raw_calls import Answer, some_at_a_time
from tests.support.rows import RECORDS, changed, fingerprints

pytestmark = pytest.mark.asyncio(loop_scope="session")

LEAST_FIELDS = 100
SAMPLES = 60
APART = 0.2
METHODS = sorted(product_methods())
QUOTED = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}")


@dataclass
class References:
    """The running product, ids of things of some kinds, and what was there before."""

    rpcs: EveryRpc
    foreign: Mapping[str, str]
    before: Mapping[str, tuple[int, int]]

    async def shape(self, method: str, place: Place, value: str) -> str:
        """Return how a method answers to a value in one field, without the value."""
        answer = await self.rpcs.ask(method, place.set(self.rpcs.requests[method], value))
        return f"{answer.code.name} {answer.reason} {without_ids(answer)} {answer.fields}"


def without_ids(answer: Answer) -> str:
    """Return the sentence and the names of the facts, without ids."""
    return QUOTED.sub("…", f"{answer.text} {sorted(answer.facts)}")


def naming(method: str) -> Iterator[Place]:
    """Yield the fields of a request that name something by an id or a name."""
    for place in places(product_methods()[method].input_type):
        field = place.field
        if field.name in NAMING and field.type == FieldDescriptor.TYPE_STRING:
            yield place


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def references(platform: Platform) -> References:
    rpcs = await EveryRpc.of(platform)
    requests: Mapping[str, Any] = rpcs.requests
    foreign = {
        "deployment_metric": requests[f"/{DEPLOYMENT}/GetDeploymentMetric"].deployment_metric,
        "approval": requests[f"/{DEPLOYMENT}/GetApproval"].approval,
        "lock": requests[f"/{RESTRICTIONS}/GetLock"].lock,
        "api_token_id": requests[f"/{IDENTITY}/RevokeApiToken"].api_token_id,
    }
    before = await fingerprints(platform.database_url, without=RECORDS)
    return References(rpcs, foreign, before)


@pytest.mark.parametrize("method", [method for method in METHODS if any(naming(method))])
async def test_ids_of_other_things_are_answered_like_ids_of_nothing(
    references: References, method: str
) -> None:
    for place in naming(method):
        nothing = {await references.shape(method, place, str(new_id())) for _ in range(2)}
        others = {
            await references.shape(method, place, value)
            for kind, value in references.foreign.items()
            if kind != place.field.name
        }
        assert nothing == others, str(place)
        assert len(nothing) == 1, str(place)


async def test_none_of_it_changed_a_row(references: References) -> None:
    after = await fingerprints(references.rpcs.platform.database_url, without=RECORDS)
    assert changed(references.before, after) == {}


async def test_the_fields_are_as_many_as_it_looks() -> None:
    assert sum(1 for method in METHODS for _ in naming(method)) > LEAST_FIELDS


@dataclass
class Twins:
    """Two persons who are alike, and the session of each."""

    identities: Identities
    one: Any
    session_of_one: str
    session_of_other: str

    async def answers(self, session_id: str) -> str:
        """Have the one end a session, which is only rehearsed; return the shape of the answer."""
        error = await self.identities.refused(
            "RevokeSession", self.one, session_id=session_id, validate_only=True
        )
        assert isinstance(error, ResourceNotFound)
        return QUOTED.sub("…", f"{error} {sorted(error.facts)}")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def twins(platform: Platform) -> Twins:
    identities = Identities(platform)
    sessions = []
    for _ in range(2):
        user = await identities.person()
        session = await identities.log_in(user.username)
        listed = await identities.call("ListSessions", session)
        sessions.append((session, listed.sessions[0].id))
    (one, own), (_other, others) = sessions
    return Twins(identities, one, own, others)


async def test_the_session_of_somebody_else_is_answered_like_none(twins: Twins) -> None:
    assert await twins.answers(twins.session_of_other) == await twins.answers(str(new_id()))
    own = {"session_id": twins.session_of_one, "validate_only": True}
    await twins.identities.call("RevokeSession", twins.one, **own)
    error = await twins.identities.refused("ListSessions", twins.one, user="admin")
    assert error.reason == "NOT_PERMITTED"


async def test_and_in_the_same_time(twins: Twins) -> None:
    """Alternating, so that both share the mood of the machine; once more when it was a bad one."""
    found = []
    for _ in range(2):
        took: dict[bool, list[float]] = {True: [], False: []}
        for number in range(2 * SAMPLES):
            somebodys = number % 2 == 0
            session_id = twins.session_of_other if somebodys else str(new_id())
            began = time.perf_counter()
            await twins.answers(session_id)
            took[somebodys].append(time.perf_counter() - began)
        found.append(abs(median(took[True]) / median(took[False]) - 1))
        if found[-1] <= APART:
            break
    assert found[-1] <= APART, found


async def test_a_developer_changes_nothing_by_the_ids_of_others(
    references: References, platform: Platform
) -> None:
    """Every method, with the ids of an admin's things, as somebody who has none; not rehearsed."""
    identities = Identities(platform)
    user = await identities.person()
    session = await identities.log_in(user.username)
    who = (("authorization", f"Bearer {session.access_token}"),)
    mine = {f"/{IDENTITY}/{name}" for name in ("Login", "Logout", "ChangePassword", "Refresh")}
    service = {name for name in METHODS if name.startswith(f"/{IDENTITY}/")} - mine
    before = await fingerprints(platform.database_url, without=RECORDS)
    answers = await some_at_a_time(
        platform.ask(method, for_real(references.rpcs.requests[method]), who)
        for method in sorted(service)
    )
    after = await fingerprints(platform.database_url, without=RECORDS)
    assert changed(before, after) == {}
    assert {answer.reason for answer in answers if not answer.ok} == {
        *("ROLE_REQUIRED", "RESOURCE_NOT_FOUND")
    }


def for_real(request: Message) -> Message:
    """Return a request that does not only rehearse."""
    copy = type(request)()
    copy.CopyFrom(request)
    if "validate_only" in copy.DESCRIPTOR.fields_by_name:
        copy.ClearField("validate_only")
    return copy
