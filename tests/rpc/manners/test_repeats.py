"""Changes that are rehearsed, made and repeated: every RPC with a request id treats them alike.

Each change is made for good here. What puts an end to something is therefore made in a product of
its own, where everything is as it was in the beginning.
"""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any
from uuid import UUID, uuid5

import pytest
import pytest_asyncio
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from protovalidate import Validator
from release_manager.common.v1 import access_pb2
from release_manager.identity.v1 import identity_pb2 as identity

from shared.errors import LeaseLost, RequestIdReused
from tests.support.corpus import Code
from tests.support.database import Databases
from tests.support.every_rpc import EveryRpc, answered, changed_request
from tests.support.manners import methods_that
from tests.support.platform import RETENTION, product_methods, running_platform
from tests.support.raw_calls import Answer
from tests.support.rows import ENTRIES, Fingerprints, changed, contents

pytestmark = pytest.mark.asyncio(loop_scope="session")

# In the order of the contract, in which things are made, changed and put away.
CHANGES = [name for name in product_methods() if name in methods_that("request_id")]
ENDS = ("Delete", "Promote", "Reject", "Cancel")
REHEARSED = methods_that("validate_only")
# The changes that have no request id, and yet can be rehearsed.
UNREPEATABLE = [name for name in product_methods() if name in REHEARSED and name not in CHANGES]
# No month of the seed is old enough to be retired.
TOO_YOUNG = f"/{RETENTION}/RetireAuditLogs"
# Of these, the contract says what a repeat comes to.
LEDGERS = [name for name in UNREPEATABLE if name.startswith(f"/{RETENTION}/") and name != TOO_YOUNG]
# A change that takes another one back, and that one.
BACK = {"Unarchive": "Archive", "Reactivate": "Deactivate"}
SECOND_ADMIN = "lead2"
IDS = UUID("5f1c5a52-7f3e-4a0e-8a63-0d6a6a3d3f10")
# Texts of which each rule accepts at least one.
TEXTS = (
    "manners nobody tries",
    "7.7.7",
    "abcdef0123",
    "sha256:" + "ef" * 32,
    "manners@example.com",
    str(IDS),
)


def in_products(methods: Iterable[str]) -> pytest.MarkDecorator:
    """Try each method in the one of the two products where nothing has ended what it needs."""
    cases = [
        pytest.param("ends" if name.startswith(ENDS) else "changes", method, id=method)
        for method in methods
        for name in [method.rpartition("/")[2]]
    ]
    return pytest.mark.parametrize(
        ("product", "method"), cases, indirect=["product"], scope="module"
    )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def product(databases: Databases) -> AsyncIterator[EveryRpc]:
    """Give a product with valid requests and a second admin, one for each name of a product."""
    with databases.fresh(seeded=True) as url:
        async with running_platform(url) as platform:
            rpcs = await EveryRpc.of(platform)
            another = identity.UpdateUserRequest(user=SECOND_ADMIN, role=access_pb2.ROLE_ADMIN)
            await platform.identity.UpdateUser(another, metadata=rpcs.admin)
            yield rpcs


async def state(rpcs: EveryRpc) -> Fingerprints:
    """Return what is stored, and how many entries the ledger has or will have of changes."""
    return await contents(rpcs.platform.database_url)


def entries_more(after: Fingerprints, before: Fingerprints) -> int:
    """Return how many entries one state has more than another."""
    return after[ENTRIES][0] - before[ENTRIES][0]


def variants(valid: Message) -> Iterator[Message]:
    """Yield requests that differ from a valid one in one field each, and keep the rules."""
    validator = Validator()
    descriptor: Any = valid.DESCRIPTOR
    for field in descriptor.fields:
        if field.name in {"request_id", "validate_only"} or field.message_type is not None:
            continue
        for value in _others(field, getattr(valid, field.name)):
            request = changed_request(valid, **{field.name: value})
            if request != valid and not validator.collect_violations(request):
                yield request
                break


def _others(field: FieldDescriptor, value: Any) -> list[Any]:
    if field.type == FieldDescriptor.TYPE_STRING:
        return [[text] for text in TEXTS] if field.is_repeated else list(TEXTS)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return [not value]
    return [] if field.is_repeated else [value + 1, value - 1]


def without_moment(answer: Any) -> Any:
    """Return an answer without what its receipt says of the ledger, which may know more by now."""
    copy = type(answer)()
    copy.CopyFrom(answer)
    copy.audit.ClearField("state")
    copy.audit.ClearField("leaf_indexes")
    return copy


def shape(message: Message) -> set[str]:
    """Return the paths of all that an answer has, but for its receipt."""
    found = set()
    for field, value in message.ListFields():
        if field.name == "audit":
            continue
        found.add(field.name)
        inner = field.message_type
        if inner is not None and not inner.GetOptions().map_entry:
            for each in value if field.is_repeated else [value]:
                found |= {f"{field.name}.{path}" for path in shape(each)}
    return found


async def prepare(rpcs: EveryRpc, method: str) -> None:
    """Do what a change takes back, so that there is something to change."""
    service, _, name = method.rpartition("/")
    for verb, opposite in BACK.items():
        if name.startswith(verb):
            done = f"{service}/{name.replace(verb, opposite)}"
            answered(done, await rpcs.ask(done, rpcs.request(done, validate_only=False)))


def assert_reused(answer: Answer, request_id: str) -> None:
    """The contract has one answer to a request id that comes with something else."""
    assert (answer.code, answer.reason) == (Code.INVALID_ARGUMENT, RequestIdReused.reason)
    assert answer.facts == {"request_id": request_id}


@in_products(UNREPEATABLE)
async def test_what_cannot_be_repeated_can_be_rehearsed(product: EveryRpc, method: str) -> None:
    rpcs = product
    at_first = await state(rpcs)
    for _ in range(2):
        answer = await rpcs.ask(method, rpcs.request(method, validate_only=True))
        assert answer.code is (Code.FAILED_PRECONDITION if method == TOO_YOUNG else Code.OK)
    assert changed(at_first, await state(rpcs)) == {}


@in_products(CHANGES)
async def test_a_change_is_rehearsed_then_made_once(product: EveryRpc, method: str) -> None:
    rpcs, request_id = product, str(uuid5(IDS, method))
    await prepare(rpcs, method)
    at_first = await state(rpcs)
    rehearsal = rpcs.request(method, request_id=request_id, validate_only=True)
    rehearsed = answered(method, await rpcs.ask(method, rehearsal))
    assert list(rehearsed.audit.event_ids) == []
    assert changed(at_first, await state(rpcs)) == {}

    request = changed_request(rehearsal, validate_only=False)
    first = answered(method, await rpcs.ask(method, request))
    assert first.audit.event_ids
    assert shape(first) == shape(rehearsed)
    made = await state(rpcs)
    assert changed(at_first, made).keys() >= {"idempotency_records", ENTRIES}
    assert entries_more(made, at_first) == len(first.audit.event_ids)

    again = answered(method, await rpcs.ask(method, request))
    assert without_moment(again) == without_moment(first)
    others = list(variants(request))
    assert others
    for other in others:
        assert_reused(await rpcs.ask(method, other), request_id)
    assert changed(made, await state(rpcs)) == {}

    somebody = await rpcs.platform.person(SECOND_ADMIN)
    answer = await rpcs.ask(method, request, somebody)
    assert answer.reason != RequestIdReused.reason
    assert not answer.ok or answered(method, answer).audit.event_ids != first.audit.event_ids
    # A lease is bound to who claimed it.
    is_anothers = answer.reason == LeaseLost.reason
    assert is_anothers or answer.code in {
        *(Code.OK, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.FAILED_PRECONDITION),
    }


@in_products(LEDGERS)
async def test_the_same_change_of_the_ledger_is_made_once(product: EveryRpc, method: str) -> None:
    rpcs = product
    request = rpcs.request(method, validate_only=False)
    at_first = await state(rpcs)
    first = answered(method, await rpcs.ask(method, request))
    made = await state(rpcs)
    assert entries_more(made, at_first) == 1
    assert answered(method, await rpcs.ask(method, request)) == first
    assert changed(made, await state(rpcs)) == {}
