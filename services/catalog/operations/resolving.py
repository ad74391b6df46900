"""What a name or id in a request means; the one place that says it is not there."""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.operations.changing import check_in_use
from services.catalog.rules.resources import (
    Environment,
    Release,
    Runbook,
    Service,
    ServiceAccount,
    Team,
    User,
)
from services.catalog.store import (
    environments,
    releases,
    runbooks,
    service_accounts,
    services,
    teams,
    users,
)
from shared.domain_error import FieldViolation
from shared.errors import ReferenceInactive, ResourceNotFound, ValidationFailed
from shared.identity.actor import ActorKind
from shared.ids import parse_id

T = TypeVar("T")
Find = Callable[[AsyncConnection, str], Awaitable[T | None]]
FindEach = Callable[[AsyncConnection, Sequence[str]], Awaitable[list[T | None]]]


async def _found(kind: str, find: Find[T], tx: AsyncConnection, reference: str) -> T:
    resource = await find(tx, reference)
    if resource is None:
        raise ResourceNotFound(resource_type=kind, resource=reference)
    return resource


async def each(
    kind: str, find_each: FindEach[T], tx: AsyncConnection, references: Sequence[str]
) -> list[T]:
    """Return all that are named, in that order; raises ResourceNotFound for the first missing."""
    found: list[T] = []
    for reference, resource in zip(references, await find_each(tx, references), strict=True):
        if resource is None:
            raise ResourceNotFound(resource_type=kind, resource=reference)
        found.append(resource)
    return found


async def team(tx: AsyncConnection, reference: str) -> Team:
    """Return the team with this name or id; raises ResourceNotFound."""
    return await _found("team", teams.find, tx, reference)


async def team_to_change(tx: AsyncConnection, reference: str) -> Team:
    """Return the team and lock it; raises ResourceNotFound."""
    return await _found("team", teams.find_locked, tx, reference)


async def team_locked(tx: AsyncConnection, reference: str) -> Team:
    """Return the team, archived or not, and keep it as it is; raises ResourceNotFound."""
    return await _found("team", teams.find_shared, tx, reference)


async def team_to_use(tx: AsyncConnection, reference: str) -> Team:
    """Return the team for something new to belong to, which keeps it from being archived meanwhile.

    Raises ResourceNotFound and ResourceArchived.
    """
    found = await team_locked(tx, reference)
    check_in_use("team", found, found.name)
    return found


async def service(tx: AsyncConnection, reference: str) -> Service:
    """Return the service with this name or id; raises ResourceNotFound."""
    return await _found("service", services.find, tx, reference)


async def service_to_change(tx: AsyncConnection, reference: str) -> Service:
    """Return the service and lock it; raises ResourceNotFound."""
    return await _found("service", services.find_locked, tx, reference)


async def service_to_use(tx: AsyncConnection, reference: str) -> Service:
    """Return the service for something new to refer to; it is not archived meanwhile.

    Raises ResourceNotFound and ResourceArchived.
    """
    found = await _found("service", services.find_shared, tx, reference)
    check_in_use("service", found, found.name)
    return found


async def environment(tx: AsyncConnection, reference: str) -> Environment:
    """Return the environment with this name or id; raises ResourceNotFound."""
    return await _found("environment", environments.find, tx, reference)


async def environment_to_change(tx: AsyncConnection, reference: str) -> Environment:
    """Return the environment and lock it; raises ResourceNotFound."""
    return await _found("environment", environments.find_locked, tx, reference)


async def environment_to_use(tx: AsyncConnection, reference: str) -> Environment:
    """Return the environment for something new to refer to; it is not archived meanwhile.

    Raises ResourceNotFound and ResourceArchived.
    """
    found = await _found("environment", environments.find_shared, tx, reference)
    check_in_use("environment", found, found.name)
    return found


async def release(tx: AsyncConnection, reference: str) -> Release:
    """Return the release `service@version` or with this id; raises ResourceNotFound."""
    return await _found("release", releases.find, tx, reference)


async def release_to_change(tx: AsyncConnection, reference: str) -> Release:
    """Return the release and lock it; raises ResourceNotFound."""
    return await _found("release", releases.find_locked, tx, reference)


async def runbook(tx: AsyncConnection, reference: str) -> Runbook:
    """Return the runbook with this id, which is all it is known by; raises ResourceNotFound."""
    runbook_id = parse_id(reference)
    found = await runbooks.find(tx, runbook_id) if runbook_id is not None else None
    if found is None:
        raise ResourceNotFound(resource_type="runbook", resource=reference)
    return found


async def runbook_to_change(tx: AsyncConnection, reference: str) -> Runbook:
    """Return the runbook and lock it; raises ResourceNotFound."""
    runbook_id = parse_id(reference)
    found = await runbooks.find_locked(tx, runbook_id) if runbook_id is not None else None
    if found is None:
        raise ResourceNotFound(resource_type="runbook", resource=reference)
    return found


async def user(tx: AsyncConnection, reference: str) -> User:
    """Return the user with this user name or id; raises ResourceNotFound."""
    return await _found("user", users.find, tx, reference)


async def active_person(tx: AsyncConnection, reference: str, field: str) -> User:
    """Return an active person, as owners must be, who stays one until the transaction ends.

    `field` is the request's, for the error. Raises ResourceNotFound, ReferenceInactive, or
    ValidationFailed for a program.
    """
    found = await _found("user", users.find_shared, tx, reference)
    if not found.active:
        raise ReferenceInactive(resource_type="user", resource=found.username)
    if found.kind != ActorKind.PERSON:
        why = f"must be a person, and {found.username} is a service account"
        raise ValidationFailed(
            count=1, first=f"{field}: {why}", fields=(FieldViolation(field, why),)
        )
    return found


async def service_account(tx: AsyncConnection, reference: str) -> ServiceAccount:
    """Return the service account with this name or id; raises ResourceNotFound."""
    return await _found("service account", service_accounts.find, tx, reference)


async def service_account_to_change(tx: AsyncConnection, reference: str) -> ServiceAccount:
    """Return the service account and lock it; raises ResourceNotFound."""
    return await _found("service account", service_accounts.find_locked, tx, reference)
