"""People, managed by admins: made, changed, deactivated, deleted. One of them stays an admin."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.operations import changing, creating, resolving, sessions
from services.catalog.operations.changing import Update
from services.catalog.operations.creating import first_version
from services.catalog.rules.resources import User
from services.catalog.rules.throttling import account_of
from services.catalog.store import login_throttles, users
from services.catalog.store import sessions as session_store
from shared.domain_error import DomainError, FieldViolation
from shared.errors import (
    LastAdmin,
    ResourceExists,
    ResourceNotFound,
    ResourceReferenced,
    ValidationFailed,
)
from shared.identity.actor import ActorKind, Role
from shared.outbox.change import Change
from shared.outbox.events import Category

KIND = "user"
_AUDIT_TRAIL = "the audit trail"
USED_BY: Mapping[str, str] = {
    "fk_services_owner_id": "a service",
    "fk_audit_legal_holds_user_id": "a legal hold",
    "fk_audit_legal_holds_placed_by": "a legal hold",
    "fk_audit_legal_holds_released_by": "a legal hold",
    "fk_releases_created_by": "a release",
    "fk_runbooks_created_by": "a runbook",
    "fk_runbook_versions_created_by": "a version of a runbook",
    "fk_runbook_executions_executed_by": "an execution of a runbook",
    "fk_service_accounts_owner_id": "a service account",
    "fk_service_accounts_user_id": "a service account",
    "fk_api_tokens_created_by": "an API token",
    "fk_deployments_deployed_by": "a deployment",
    "fk_approvals_approver_id": "an approval",
    "fk_rollbacks_initiated_by": "a rollback",
    "fk_environment_policies_published_by": "a deployment policy",
    "fk_release_marks_marked_by": "a mark on a release",
    "fk_release_marks_cleared_by": "a mark on a release",
    "fk_deployment_leases_holder_id": "a claimed deployment",
    "fk_stage_attempts_started_by": "a stage of a deployment",
    "fk_stage_attempts_ended_by": "a stage of a deployment",
    "fk_locks_locked_by": "a lock",
    "fk_locks_released_by": "a lock",
    "fk_gate_overrides_author_id": "an override of a gate",
    "fk_audit_logs_user_id": _AUDIT_TRAIL,
}


@dataclass(frozen=True, slots=True)
class NewUser:
    """A person to be made; `password_hash` is that of the first password."""

    username: str
    email: str
    full_name: str
    role: Role
    team: str
    password_hash: str


async def create(change: Change, new: NewUser) -> User:
    """Make a person, who must change the password first.

    Raises ResourceExists, and for the team ResourceNotFound and ResourceArchived.
    """
    team = await resolving.team_to_use(change.tx, new.team) if new.team else None
    user = User(
        **first_version(change),
        username=new.username,
        email=new.email,
        full_name=new.full_name,
        role=new.role.stored,
        active=True,
        kind=ActorKind.PERSON,
        team_id=team.id if team is not None else None,
        team=team.name if team is not None else None,
        password_change_required=True,
    )
    unsaid = {"password_hash": new.password_hash}
    await creating.create(change, KIND, user, _taken(user), Category.SECURITY, unsaid)
    return user


async def update(change: Change, wanted: Update) -> User:
    """Change a person.

    Raises ResourceNotFound, EtagMismatch, LastAdmin, ResourceExists for the mail address, and for
    the team ResourceNotFound and ResourceArchived.
    """
    values: dict[str, Any] = dict(wanted.values)
    if "team" in values:
        name = values["team"]
        team = await resolving.team_to_use(change.tx, name) if name else None
        values["team_id"] = team.id if team is not None else None
        values["team"] = team.name if team is not None else None
    user = await _to_change_keeping_an_admin(
        change,
        wanted.reference,
        wanted.etag,
        leaves=values.get("role", Role.ADMIN.stored) != Role.ADMIN.stored,
    )
    changed = replace(user, **values)
    return await changing.store(
        change, KIND, "update", user, changed, taken=_taken(changed), category=Category.SECURITY
    )


async def deactivate(change: Change, reference: str, etag: str) -> User:
    """Deactivate a person and end all sessions.

    One who is not active stays so. Raises ResourceNotFound, EtagMismatch and LastAdmin.
    """
    user = await _to_change_keeping_an_admin(change, reference, etag, leaves=True)
    inactive = replace(user, active=False)
    stored = await changing.store(
        change, KIND, "deactivate", user, inactive, category=Category.SECURITY
    )
    await sessions.end_all(change, user.id, "user_deactivated")
    return stored


async def reactivate(change: Change, reference: str, etag: str) -> User:
    """Let a person log in again.

    Raises ResourceNotFound, EtagMismatch, and ResourceArchived while their team is archived.
    """
    team_id = (await find(change.tx, reference)).team_id
    if team_id is not None:  # teams are locked before people
        await resolving.team_locked(change.tx, str(team_id))
    user = await to_change(change, reference, etag)
    if not user.active and user.team_id is not None:  # mostly the same one, and locked
        await resolving.team_to_use(change.tx, str(user.team_id))
    active = replace(user, active=True)
    return await changing.store(
        change, KIND, "reactivate", user, active, category=Category.SECURITY
    )


async def delete(change: Change, reference: str, etag: str) -> None:
    """Delete a person who has never done anything.

    Raises ResourceNotFound, EtagMismatch, LastAdmin and ResourceReferenced.
    """
    user = await _to_change_keeping_an_admin(change, reference, etag, leaves=True)
    if await session_store.any_of(change.tx, user.id):
        raise ResourceReferenced(
            resource_type=KIND, resource=user.username, used_by="a session: they have logged in"
        )
    # First, since it waits for whoever is recording a failed log-in of this user.
    await login_throttles.forget(change.tx, account_of(user.id, user.username))
    if await users.acts_waiting(change.tx, user.id):
        raise ResourceReferenced(resource_type=KIND, resource=user.username, used_by=_AUDIT_TRAIL)
    used = changing.referenced(KIND, user.username, USED_BY)
    await changing.delete(change, KIND, user, used, Category.SECURITY)


async def find(tx: AsyncConnection, reference: str) -> User:
    """Return a person by user name or id; raises ResourceNotFound, ValidationFailed."""
    return _person(reference, await users.find(tx, reference))


async def to_change(change: Change, reference: str, etag: str = "") -> User:
    """Return a person and lock it; raises ResourceNotFound, ValidationFailed, EtagMismatch."""
    user = _person(reference, await users.find_locked(change.tx, reference))
    changing.check_etag(KIND, user, etag)
    return user


async def _to_change_keeping_an_admin(
    change: Change, reference: str, etag: str, *, leaves: bool
) -> User:
    """Return a person like `to_change`, who is not the last active admin if it `leaves` them."""
    if not leaves:
        return await to_change(change, reference, etag)
    found, others = await users.find_locked_among_admins(change.tx, reference)
    user = _person(reference, found)
    changing.check_etag(KIND, user, etag)
    if user.active and user.role == Role.ADMIN.stored and not others:
        raise LastAdmin(username=user.username)
    return user


def _person(reference: str, user: User | None) -> User:
    if user is None:
        raise ResourceNotFound(resource_type=KIND, resource=reference)
    if user.kind != ActorKind.PERSON:
        why = f"must be a person, and {user.username} is a service account"
        raise ValidationFailed(count=1, first=f"user: {why}", fields=(FieldViolation("user", why),))
    return user


def _taken(user: User) -> dict[str, DomainError]:
    return {
        "uq_users_username": ResourceExists(resource_type=KIND, resource=user.username),
        "uq_users_email": ResourceExists(resource_type=KIND, resource=user.email),
    }
