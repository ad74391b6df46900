"""Service accounts: a program's user, who answers for it, and what it may do."""

from dataclasses import dataclass, replace
from typing import Any

from services.catalog.operations import changing, creating, resolving
from services.catalog.operations.changing import Update
from services.catalog.operations.creating import first_version
from services.catalog.rules.resources import ServiceAccount, User
from services.catalog.store import service_accounts, users
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.db.models import identity as tables
from shared.errors import ResourceExists, ResourceNotFound
from shared.identity.actor import ActorKind, Role
from shared.outbox.change import Change
from shared.outbox.events import Category

KIND = "service_account"
MAIL_DOMAIN = "service.invalid"
"""Users have a mail address; `.invalid` never has a mailbox (RFC 2606)."""


@dataclass(frozen=True, slots=True)
class NewServiceAccount:
    """A service account to be made."""

    name: str
    description: str
    owner: str
    role: Role
    scopes: tuple[str, ...]


async def create(change: Change, new: NewServiceAccount) -> ServiceAccount:
    """Make an account and the user that stands for it: two aggregates, two entries.

    Raises ResourceExists when a user or account has the name, and what
    `resolving.active_person` raises for the owner.
    """
    owner = await resolving.active_person(change.tx, new.owner, "owner")
    user = await _create_user(change, new)
    account = ServiceAccount(
        **first_version(change),
        name=new.name,
        description=new.description,
        user_id=user.id,
        owner_id=owner.id,
        owner=owner.username,
        role=user.role,
        scopes=tuple(sorted(new.scopes)),
        active=True,
    )
    await creating.create(
        change,
        KIND,
        account,
        {"uq_service_accounts_name": _taken(new)},
        Category.SECURITY,
    )
    return account


async def update(change: Change, wanted: Update) -> ServiceAccount:
    """Change an account, and with its role the user that stands for it.

    Raises ResourceNotFound, EtagMismatch, and what `resolving.active_person` raises for the owner.
    """
    values: dict[str, Any] = dict(wanted.values)
    if "owner" in values:
        owner = await resolving.active_person(change.tx, values["owner"], "owner")
        values |= {"owner_id": owner.id, "owner": owner.username}
    if "scopes" in values:
        values["scopes"] = tuple(sorted(values["scopes"]))
    account = await _to_change(change, wanted.reference, wanted.etag)
    return await _store(change, "update", account, replace(account, **values))


async def deactivate(change: Change, reference: str, etag: str) -> ServiceAccount:
    """Deactivate an account, so that its tokens stop working.

    One that is not active stays so. Raises ResourceNotFound and EtagMismatch.
    """
    account = await _to_change(change, reference, etag)
    return await _store(change, "deactivate", account, replace(account, active=False))


async def reactivate(change: Change, reference: str, etag: str) -> ServiceAccount:
    """Let an account work again; raises ResourceNotFound and EtagMismatch."""
    account = await _to_change(change, reference, etag)
    return await _store(change, "reactivate", account, replace(account, active=True))


async def get(db: Database, reference: str) -> ServiceAccount:
    """Return a service account by name or id."""
    async with db.snapshot() as tx:
        return await resolving.service_account(tx, reference)


async def page(db: Database, owner: str, at: PageRequest) -> Page[ServiceAccount]:
    """Return a page of the accounts of an owner, or of all; raises ResourceNotFound."""
    filters = []
    async with db.snapshot() as tx:
        if owner:
            person = await resolving.user(tx, owner)
            filters.append(tables.ServiceAccount.owner_id == person.id)
        return await service_accounts.listed(tx, filters, at)


async def _to_change(change: Change, reference: str, etag: str) -> ServiceAccount:
    """Return an account, locked after its user, of whom its role and state are."""
    known = await resolving.service_account(change.tx, reference)
    await users.find_locked(change.tx, str(known.user_id))
    account = await resolving.service_account_to_change(change.tx, str(known.id))
    changing.check_etag(KIND, account, etag)
    return account


async def _store(
    change: Change, action: str, before: ServiceAccount, after: ServiceAccount
) -> ServiceAccount:
    """Write an account and, as far as it differs, its user: an entry for each."""
    user = await users.find(change.tx, str(before.user_id))
    if user is None:
        raise ResourceNotFound(resource_type="user", resource=before.user_id)
    changed = replace(user, role=after.role, active=after.active)
    security = Category.SECURITY
    await changing.store(change, "user", action, user, changed, category=security)
    return await changing.store(change, KIND, action, before, after, category=security)


async def _create_user(change: Change, new: NewServiceAccount) -> User:
    user = User(
        **first_version(change),
        username=new.name,
        email=f"{new.name}@{MAIL_DOMAIN}",
        full_name=new.name,
        role=new.role.stored,
        active=True,
        kind=ActorKind.SERVICE,
        team_id=None,
        team=None,
    )
    taken = _taken(new)
    await creating.create(
        change,
        "user",
        user,
        {"uq_users_username": taken, "uq_users_email": taken},
        Category.SECURITY,
    )
    return user


def _taken(new: NewServiceAccount) -> ResourceExists:
    return ResourceExists(resource_type="user or service account", resource=new.name)
