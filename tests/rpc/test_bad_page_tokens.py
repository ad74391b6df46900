"""Page tokens that were changed, made up, or belong to something else: refused, all in one way."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from release_manager.audit.v1 import audit_pb2

from shared.errors import PageTokenInvalid
from shared.paging import PageTokens
from tests.support.every_rpc import changed_request
from tests.support.platform import Platform, product_methods
from tests.support.raw_calls import Answer, Metadata, some_at_a_time
from tests.support.valid_requests import valid_requests

pytestmark = pytest.mark.asyncio(loop_scope="session")

LISTS = sorted(
    name
    for name, method in product_methods().items()
    if "page_token" in method.input_type.fields_by_name
)
# What names or means something in any list; the last one is a part of the ledger.
CHANGES: Mapping[str, object] = {
    "service": "auth",
    "environment": "prod",
    "compared_with": "prod",
    "as_of of entries": Timestamp(seconds=1_700_000_000),
    "team": "Platform",
    **dict.fromkeys(("author", "owner", "user", "approver", "deployed_by"), "dev1"),
    "tag": "corpus",
    "query": "corpus",
    "name": "latency",
    "filter": 'created_at > "2020-01-01T00:00:00Z"',
    "order_by": "created_at",
    "service_account": "catalog",
    "webhook": "corpus-other",
    "stage": "build",
    "filter of entries": audit_pb2.AuditLogFilter(action="create"),
}
# Of these another one of the same kind must be there.
OTHERS = ("deployment", "deployment_id", "release", "runbook")
# A total is counted once, with whichever page; it does not change what is on the pages.
UNBOUND = {"include_total"}
FILTERS = {
    method: [
        field.name
        for field in product_methods()[method].input_type.fields
        if field.name not in {"page_size", "page_token", *UNBOUND}
    ]
    for method in LISTS
}
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass
class Lists:
    """The running product with at least two rows in each list, and a token for its second page."""

    platform: Platform
    admin: Metadata
    other: Metadata
    requests: Mapping[str, Message]
    tokens: dict[str, str]

    def request(self, method: str, **changes: object) -> Message:
        """Return the valid request of a list with other values in some fields."""
        request = type(self.requests[method])()
        request.CopyFrom(self.requests[method])
        for name, value in changes.items():
            setattr(request, name, value)
        return request

    async def answer(self, method: str, token: str, **changes: object) -> Answer:
        """Ask for the page that a token continues with."""
        request = self.request(method, page_token=token, **changes)
        return await self.platform.ask(method, request, self.admin)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def lists(platform: Platform) -> Lists:
    admin = await platform.person("admin")
    writer = await platform.program("viewer", "audit.write", "on_behalf_of")
    requests = await valid_requests(platform, admin, writer)
    other = await platform.program("admin", "audit.read")
    made = Lists(platform, admin, other, requests, {})
    for method in LISTS:
        answer = await platform.ask(method, made.request(method, page_size=1), admin)
        assert answer.ok, f"{method}: {answer}"
        made.tokens[method] = next_token(method, answer)
    return made


def next_token(method: str, answer: Answer) -> str:
    """Return the token in the answer of a list."""
    listed: Any = message_factory.GetMessageClass(product_methods()[method].output_type)
    return str(listed.FromString(answer.answers[0]).next_page_token)


def assert_refused(answer: Answer, method: str) -> None:
    assert answer.code is grpc.StatusCode.INVALID_ARGUMENT
    assert answer.reason == PageTokenInvalid.reason
    assert answer.text == str(PageTokenInvalid(method=method))


@pytest.mark.parametrize("method", LISTS)
async def test_a_token_continues_its_own_list(lists: Lists, method: str) -> None:
    assert lists.tokens[method], "there is no second page"
    for size in (0, 1, 1_000):
        assert (await lists.answer(method, lists.tokens[method], page_size=size)).ok


@pytest.mark.parametrize("method", LISTS)
async def test_changed_tokens_are_refused(lists: Lists, method: str) -> None:
    token = lists.tokens[method]
    changed = [
        token[:at] + ALPHABET[(ALPHABET.index(token[at]) + 1) % 64] + token[at + 1 :]
        for at in range(len(token))
    ]
    changed += [token[:-1], token[1:], token + "A", token + "=", token + token, token.lower()]
    changed += [token[:8], token[:22], " " + token, token + "\n", token.swapcase()]
    for answer in await some_at_a_time(lists.answer(method, text) for text in changed):
        assert_refused(answer, method)


@pytest.mark.parametrize("method", LISTS)
async def test_made_up_tokens_are_refused(lists: Lists, method: str) -> None:
    caller = lists.requests[method]  # any bytes will do as a query
    key, user = b"a" * 32, next(iter(lists.platform.programs.values())).account_id
    another = PageTokens(key).encode(method, user, caller.SerializeToString(), ["a", 1])
    positions: list[object] = [[2**63], [], [None], ["a", "b"], {"a": 1}, 0, [1e308], ["x" * 1000]]
    made_up = [
        urlsafe_b64encode(b"\0" * 16 + json.dumps(position).encode()).decode().rstrip("=")
        for position in positions
    ]
    for text in ("AAAA", "=", "....", "😀", "%", "-1", "0", "null", another, *made_up):
        assert_refused(await lists.answer(method, text), method)


@pytest.mark.parametrize("method", LISTS)
async def test_tokens_of_other_lists_are_refused(lists: Lists, method: str) -> None:
    for other in LISTS:
        if other != method:
            assert_refused(await lists.answer(method, lists.tokens[other]), method)


@pytest.mark.parametrize("method", LISTS)
async def test_tokens_of_other_callers_are_refused(lists: Lists, method: str) -> None:
    request = lists.request(method, page_token=lists.tokens[method])
    assert_refused(await lists.platform.ask(method, request, lists.other), method)


@pytest.mark.parametrize("method", LISTS)
async def test_tokens_of_other_filters_and_orders_are_refused(lists: Lists, method: str) -> None:
    """Whichever field of the request is another one than it was."""
    for name in FILTERS[method]:
        value = changed_value(lists, method, name)
        request = changed_request(lists.requests[method], **{name: value})
        assert (await lists.platform.ask(method, request, lists.admin)).ok, name
        request.page_token = lists.tokens[method]
        assert_refused(await lists.platform.ask(method, request, lists.admin), method)


def changed_value(lists: Lists, method: str, name: str) -> object:
    """Return another value for a field than it has, with which the list can be asked for."""
    field = product_methods()[method].input_type.fields_by_name[name]
    now = getattr(lists.requests[method], name)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return not now
    if field.enum_type is not None:
        return 1 + now
    if field.message_type is not None:
        return CHANGES[f"{name} of entries"]
    return another(lists, name, now) if name in OTHERS else CHANGES[name]


def another(lists: Lists, name: str, now: str) -> str:
    """Return what a valid request names by such a field, another one than `now`."""
    found = (getattr(request, name.removesuffix("_id"), "") for request in lists.requests.values())
    return str(next(text for text in found if text not in {"", now}))
