"""What `grpcurl describe` shows of every call and message: its comment and its rules.

It has nothing but reflection, so this asks the running services by reflection, symbol by symbol,
and reads the answers without the generated code. What they must say is taken from that code.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf import descriptor_pool, text_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FileDescriptor
from google.protobuf.unknown_fields import UnknownFieldSet

from tests.support.described import Described, described
from tests.support.platform import SERVED, Platform, product_methods

pytestmark = pytest.mark.asyncio(loop_scope="session")

OURS = "release_manager/"
METHODS = {str(method.full_name): method for method in product_methods().values()}
SERVICES = [name for names in SERVED.values() for name in names]


def files() -> dict[str, FileDescriptor]:
    """Return our files that the services are described by, by name."""
    found: dict[str, FileDescriptor] = {}

    def add(file: FileDescriptor) -> None:
        if file.name.startswith(OURS) and file.name not in found:
            found[file.name] = file
            for imported in file.dependencies:
                add(imported)

    for service in SERVICES:
        add(descriptor_pool.Default().FindFileContainingSymbol(service))
    return dict(sorted(found.items()))


MESSAGES: Mapping[str, Descriptor] = {
    str(message.full_name): message
    for file in files().values()
    for message in file.message_types_by_name.values()
}
ENUMS: Mapping[str, EnumDescriptor] = {
    str(enum.full_name): enum
    for file in files().values()
    for enum in file.enum_types_by_name.values()
}


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["v1", "v1alpha"])
async def learned(platform: Platform, request: pytest.FixtureRequest) -> Mapping[str, Described]:
    """What each service tells, by service and by the symbols that it must know."""
    return {
        service: await described(platform.channels[service], symbols_of(service), request.param)
        for service in SERVICES
    }


def symbols_of(service: str) -> list[str]:
    """Return the symbols that a service is asked for: itself, its calls, and all it refers to."""
    own = descriptor_pool.Default().FindServiceByName(service)
    messages = [m for method in own.methods for m in (method.input_type, method.output_type)]
    seen: dict[str, None] = {}
    for message in messages:
        for name in reached(message):
            seen[name] = None
    return [service, *(str(method.full_name) for method in own.methods), *seen]


def reached(message: Descriptor) -> Iterator[str]:
    """Yield the names of a message and of all that it is made of, as far as they are ours."""
    waiting, seen = [message], set()
    while waiting:
        one = waiting.pop()
        if one.full_name in seen or not one.file.name.startswith(OURS):
            continue
        seen.add(one.full_name)
        if not one.GetOptions().map_entry:
            yield one.full_name
        waiting += [field.message_type for field in one.fields if field.message_type]
        yield from (str(f.enum_type.full_name) for f in one.fields if f.enum_type)


async def test_what_is_reached_is_all_there_is() -> None:
    asked = {symbol for service in SERVICES for symbol in symbols_of(service)}
    there = {*SERVICES, *METHODS, *MESSAGES, *ENUMS}
    # Options of methods, which are read and never sent.
    assert there - asked == {"release_manager.common.v1.DuringAuditBacklog"}
    assert asked <= there


def tellers(learned: Mapping[str, Described], symbol: str) -> list[Described]:
    """Return what the services that refer to a symbol tell."""
    found = [told for service, told in learned.items() if symbol in symbols_of(service)]
    assert found, symbol
    return found


def check(told: Described, name: str, options: Any) -> None:
    """Check that a thing is told with its comment, and its options just as they are written."""
    assert told.comments.get(name), f"{name} has no comment"
    read = told.options(options)
    unread = [known for known in [UnknownFieldSet(read)] if len(known)]
    assert unread == [], f"{name} has options that its readers do not know"
    assert text_format.MessageToString(read) == text_format.MessageToString(options)


@pytest.mark.parametrize("name", METHODS)
async def test_a_call_is_described(learned: Mapping[str, Described], name: str) -> None:
    service, _, rpc = name.rpartition(".")
    told = learned[service]
    shown = told.pool.FindServiceByName(service).methods_by_name[rpc]
    assert told.comments.get(service)
    check(told, name, METHODS[name].GetOptions())
    assert shown.GetOptions().ListFields()
    assert shown.input_type.full_name == METHODS[name].input_type.full_name
    assert shown.output_type.full_name == METHODS[name].output_type.full_name


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_message_is_described(learned: Mapping[str, Described], name: str) -> None:
    for told in tellers(learned, name):
        check(told, name, MESSAGES[name].GetOptions())
        shown = told.pool.FindMessageTypeByName(name)
        assert [field.name for field in shown.fields] == [f.name for f in MESSAGES[name].fields]
        for written in MESSAGES[name].fields:
            check(told, str(written.full_name), written.GetOptions())


@pytest.mark.parametrize("name", [name for name in ENUMS if not name.endswith("Backlog")])
async def test_an_enum_is_described(learned: Mapping[str, Described], name: str) -> None:
    for told in tellers(learned, name):
        assert told.comments.get(name)
        for value in ENUMS[name].values:
            assert told.comments.get(f"{name}.{value.name}"), value.name


async def test_rules_are_described(learned: Mapping[str, Described]) -> None:
    """A rule and an option, as whoever describes the message or the call reads them."""
    told = learned["release_manager.catalog.v1.CatalogService"]
    message = told.pool.FindMessageTypeByName("release_manager.catalog.v1.CreateServiceRequest")
    rules = told.options(message.fields_by_name["team"].GetOptions())
    assert "[buf.validate.field] {\n  string {\n    min_len: 1\n    max_len: 256\n" in str(rules)
    call = told.pool.FindServiceByName("release_manager.catalog.v1.CatalogService").methods[0]
    options = told.options(call.GetOptions())
    assert "[release_manager.common.v1.required_role]: ROLE_ADMIN" in str(options)
