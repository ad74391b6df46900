"""The door itself, wrong about one method: the reviewed file must disagree with it each time.

Every rule of the protos is changed to every other one, for each method alone, and the decisions are
made by the production code. A rule that could be changed without anybody noticing would be one that
the file does not really state.
"""

from collections.abc import Mapping
from itertools import product

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from release_manager.common.v1 import access_pb2

from shared.domain_error import DomainError
from shared.identity.access import OPEN_SERVICES, AccessRules
from shared.identity.actor import Actor, ActorKind, Role
from shared.ids import new_id
from shared.rpc.methods import Methods, methods_of
from shared.rpc.status import code_of
from tests.rpc.authorization import Cell, Matrix, mismatches
from tests.support.platform import SERVED, product_methods
from tests.support.raw_calls import Answer

MATRIX = Matrix.read()
SERVICES = [service for names in SERVED.values() for service in names]
SCOPES = (
    *("", "audit.write", "audit.read", "audit.export"),
    *("audit.redact", "audit.retire", "audit.hold", "audit.webhooks"),
    *("on_behalf_of", "deploy"),
)
NO_PERSON = {access_pb2.ROLE_SERVICE_ACCOUNT}


def person(role: Role) -> Actor:
    return Actor(new_id(), role.stored, role)


def program(role: Role, *scopes: str) -> Actor:
    return Actor(new_id(), "program", role, kind=ActorKind.SERVICE, scopes=frozenset(scopes))


ACTORS: Mapping[str, Actor | None] = {
    "anonymous": None,
    "viewer": person(Role.VIEWER),
    "developer": person(Role.DEVELOPER),
    "lead": person(Role.LEAD),
    "admin": person(Role.ADMIN),
    "program": program(Role.ADMIN),
    "writer": program(Role.VIEWER, "audit.write"),
    "deployment": program(Role.VIEWER, "audit.write", "on_behalf_of"),
    "catalog": program(Role.VIEWER, "audit.write", "on_behalf_of"),
    "exporter": program(Role.LEAD, "audit.export"),
    "reader": program(Role.LEAD, "audit.read"),
    "ci": program(Role.DEVELOPER, "deploy"),
    "eraser": program(Role.ADMIN, "audit.redact"),
    "archivist": program(Role.ADMIN, "audit.retire"),
    "holder": program(Role.ADMIN, "audit.hold"),
    "webhooker": program(Role.ADMIN, "audit.webhooks"),
}
EXPECTED = {
    (method, caller): letter
    for (method, caller), letter in MATRIX.cells.items()
    if caller in ACTORS and method.split("/")[1] not in OPEN_SERVICES
}


def decided(rules: AccessRules, methods: Methods) -> Mapping[Cell, str]:
    """Return what the rules decide about each method and caller, as letters."""
    cells: dict[Cell, str] = {}
    for method, (caller, actor) in product(methods, ACTORS.items()):
        try:
            rules.check(method, actor)
            cells[method, caller] = "A"
        except DomainError as error:
            answer = Answer(code_of(error), reason=error.reason, facts=error.facts)
            cells[method, caller] = MATRIX.letter(answer)
    return cells


def with_all_methods_under(role: int, scope: str) -> Methods:
    """Return the product's methods as if each of them asked for this role and this scope."""
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(file: FileDescriptor) -> None:
        if file.name in added:
            return
        added.add(file.name)
        for needed in file.dependencies:
            add(needed)
        description = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(description)
        for service in description.service:
            for method in service.method:
                method.options.Extensions[access_pb2.required_role] = access_pb2.Role.ValueType(
                    role
                )
                method.options.Extensions[access_pb2.required_scope] = scope
        pool.Add(description)

    for method in product_methods().values():
        add(method.containing_service.file)
    return methods_of(SERVICES, pool)


def test_the_rules_of_the_protos_are_those_of_the_file() -> None:
    methods = product_methods()
    assert mismatches(EXPECTED, decided(AccessRules(methods), methods)) == []


@pytest.mark.parametrize("role", sorted(access_pb2.Role.values()))
@pytest.mark.parametrize("scope", SCOPES)
def test_every_other_rule_for_a_method_is_noticed(role: int, scope: str) -> None:
    methods = product_methods()
    others = with_all_methods_under(role, scope)
    right = AccessRules(methods)
    for name, method in methods.items():
        options = method.GetOptions()
        stated = options.Extensions[access_pb2.required_role]
        scoped = options.Extensions[access_pb2.required_scope]
        if same_rule(stated, scoped, role, scope):
            continue
        flipped = AccessRules({**methods, name: others[name]})
        row = {name: method}
        noticed = mismatches(decided(right, row), decided(flipped, row))
        assert noticed, f"{name} could ask for {role} {scope}"
        expected = {cell: letter for cell, letter in EXPECTED.items() if cell[0] == name}
        assert mismatches(expected, decided(flipped, row)) == noticed


def same_rule(stated: int, scoped: str, role: int, scope: str) -> bool:
    """Say whether two rules let in the same callers: who may be anybody needs no scope."""
    if stated == role and role in {access_pb2.ROLE_ANYONE, access_pb2.ROLE_UNSPECIFIED}:
        return True
    return (stated, scoped) == (role, scope)
