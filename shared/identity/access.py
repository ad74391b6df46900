"""Who may call a method: read from the method's own options, decided in one place."""

from collections.abc import Mapping
from dataclasses import dataclass

from google.protobuf.descriptor import MethodDescriptor
from release_manager.common.v1 import access_pb2

from shared.domain_error import DomainError
from shared.errors import (
    CredentialsMissing,
    NotPermitted,
    PasswordChangeRequired,
    RoleRequired,
    ScopeRequired,
)
from shared.identity.actor import Actor, ActorKind, Role

OPEN_SERVICES = frozenset(
    {
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    }
)

_IDENTITY = "/release_manager.identity.v1.IdentityService"
BEFORE_PASSWORD_CHANGE = frozenset(
    f"{_IDENTITY}/{name}" for name in ("ChangePassword", "Logout", "WhoAmI")
)
"""What somebody may call whose password must be changed first, besides what anybody may."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a method asks of its caller: a role (a number of the proto enum) and a scope."""

    role: int
    scope: str


class AccessRules:
    """The requirements of all methods of a server; what is not in them is refused."""

    def __init__(self, methods: Mapping[str, MethodDescriptor]) -> None:
        """Read the requirements of `methods`, which are keyed by `/package.Service/Method`."""
        self._requirements = {name: _requirement(method) for name, method in methods.items()}

    def is_infrastructure(self, method: str) -> bool:
        """Say whether the method belongs to health or reflection, which know no callers."""
        return method.split("/")[1] in OPEN_SERVICES

    def is_open(self, method: str) -> bool:
        """Say whether anybody may call the method, with or without credentials."""
        requirement = self._requirements.get(method)
        return self.is_infrastructure(method) or (
            requirement is not None and requirement.role == access_pb2.ROLE_ANYONE
        )

    def refusal(self, method: str, actor: Actor | None) -> DomainError | None:
        """Return what `check` raises, None when `actor` may call `method`."""
        try:
            self.check(method, actor)
        except DomainError as error:
            return error
        return None

    def check(self, method: str, actor: Actor | None) -> None:
        """Return when `actor` may call `method`.

        Raises CredentialsMissing, PasswordChangeRequired, RoleRequired or ScopeRequired, and
        NotPermitted for a method that states no role or is unknown: those are refused to everybody.
        """
        if self.is_open(method):
            return
        if actor is None:
            raise CredentialsMissing
        if actor.password_change_required and method not in BEFORE_PASSWORD_CHANGE:
            raise PasswordChangeRequired
        requirement = self._requirements.get(method)
        if requirement is None or requirement.role == access_pb2.ROLE_UNSPECIFIED:
            raise NotPermitted(
                action="call this method", because="the contract says of nobody that they may"
            )
        if requirement.role == access_pb2.ROLE_SERVICE_ACCOUNT:
            if actor.kind is not ActorKind.SERVICE or requirement.scope not in actor.scopes:
                raise ScopeRequired(scope=requirement.scope)
            return
        required = Role(requirement.role)
        if actor.role < required:
            raise RoleRequired(required=required.stored, role=actor.role.stored)
        lacks_scope = requirement.scope and requirement.scope not in actor.scopes
        if actor.kind is ActorKind.SERVICE and lacks_scope:
            raise ScopeRequired(scope=requirement.scope)


def _requirement(method: MethodDescriptor) -> Requirement:
    options = method.GetOptions()
    return Requirement(
        role=options.Extensions[access_pb2.required_role],
        scope=options.Extensions[access_pb2.required_scope],
    )
