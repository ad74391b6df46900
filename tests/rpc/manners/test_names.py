"""What is named and not there: said to those who may ask, and hidden from all others."""

import pytest
from release_manager.common.v1 import access_pb2

from shared.errors import ResourceNotFound
from tests.support.corpus import Code, Place, places
from tests.support.every_rpc import EveryRpc
from tests.support.manners import REFERENCES, called, required_role, takes_ids_only
from tests.support.platform import IDENTITY, product_methods

pytestmark = pytest.mark.asyncio(loop_scope="session")

METHODS = product_methods()
UNKNOWN_ID = "018f4e6a-1111-7aaa-8bbb-0123456789ab"
RELEASES = {"release", "releases", "target_release", "from_release", "to_release"}
# What is said of an unknown name otherwise than that it is not there, with the reason.
_COMPARED = "it is compared with names, also with ones to come"
OTHERWISE = {
    "NotificationService/CreateWebhook environments": _COMPARED,
    "NotificationService/CreateWebhook services": _COMPARED,
    "NotificationService/UpdateWebhook environments": _COMPARED,
    "NotificationService/UpdateWebhook services": _COMPARED,
    "AuditService/LogActions events.user": "each event of a batch is answered for itself",
    "CatalogService/SuggestRunbooks stage": "it is a tag to look for, and none need have it",
}
# Fields that a field goes without.
WITHOUT = {
    "CatalogService/SuggestRunbooks deployment_id": ("service", "environment", "stage"),
}
# Everybody may ask about sessions, and only an admin learns anything about those of others.
SESSIONS = {f"/{IDENTITY}/ListSessions": "user", f"/{IDENTITY}/RevokeSession": "session_id"}


def named(method: str) -> list[Place]:
    """Return the fields of a request that name something, those of messages in it as well."""
    return [
        place
        for place in places(METHODS[method].input_type)
        if place.field.name in REFERENCES and place.field.type == place.field.TYPE_STRING
    ]


NAMING = [name for name in METHODS if named(name)]
GUARDED = [
    name
    for name, method in METHODS.items()
    if required_role(method) not in {access_pb2.ROLE_VIEWER, access_pb2.ROLE_ANYONE}
]


def unknown(place: Place) -> list[str]:
    """Return texts that the rules of a field accept and that name nothing."""
    if place.field.name == "stage":
        return ["manners_unknown"]
    names = ["manners-unknown" + "@1.0.0" * (place.field.name in RELEASES)]
    return [UNKNOWN_ID] if takes_ids_only(place.field) else [UNKNOWN_ID, *names]


def case(method: str, place: Place) -> str:
    """Return what the lists above call a field of a request."""
    return f"{called(METHODS[method])} {place}"


@pytest.mark.parametrize("method", NAMING)
async def test_what_is_not_there_is_named(rpcs: EveryRpc, method: str) -> None:
    for place in named(method):
        valid = rpcs.request(method, **dict.fromkeys(WITHOUT.get(case(method, place), ())))
        for text in unknown(place):
            answer = await rpcs.platform.ask(method, place.set(valid, text), rpcs.caller(method))
            was_found = answer.code is not Code.NOT_FOUND
            assert was_found == (case(method, place) in OTHERWISE), f"{place}: {answer}"
            if not was_found:
                assert answer.reason == ResourceNotFound.reason
                assert answer.facts["resource"] == text
                assert answer.facts["resource_type"] in answer.text


async def test_every_exception_is_one() -> None:
    cases = {case(method, place) for method in NAMING for place in named(method)}
    assert OTHERWISE.keys() | WITHOUT.keys() <= cases


@pytest.mark.parametrize("method", GUARDED)
async def test_who_may_not_ask_does_not_learn_what_is_there(rpcs: EveryRpc, method: str) -> None:
    """Whoever lacks the role is told so, in the same words, whatever the request names."""
    viewer = await rpcs.platform.person("viewer1")
    valid = rpcs.requests[method]
    requests = [valid.SerializeToString(), b"", b"no message"]
    requests += [place.set(valid, text) for place in named(method) for text in unknown(place)]
    answers = [await rpcs.platform.ask(method, request, viewer) for request in requests]
    assert {answer.code for answer in answers} == {Code.PERMISSION_DENIED}
    assert answers == answers[:1] * len(answers)


@pytest.mark.parametrize("method", SESSIONS)
async def test_sessions_of_others_are_nowhere(rpcs: EveryRpc, method: str) -> None:
    viewer, field = await rpcs.platform.person("viewer1"), SESSIONS[method]
    somebodys = getattr(rpcs.requests[method], field) or "dev1"
    answers = [
        await rpcs.ask(method, rpcs.request(method, **{field: value}), viewer)
        for value in (somebodys, UNKNOWN_ID)
    ]
    assert {answer.code for answer in answers} in ({Code.PERMISSION_DENIED}, {Code.NOT_FOUND})
    assert len({answer.text.replace(somebodys, UNKNOWN_ID) for answer in answers}) == 1
