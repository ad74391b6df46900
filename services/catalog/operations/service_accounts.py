"""Service accounts: a program's user, who answers for it, and what it may do."""

from dataclasses import dataclass

from services.catalog.operations import resolving
from services.catalog.operations.recording import record_creation
from services.catalog.rules.pages import Page, PageRequest
from services.catalog.rules.resources import ServiceAccount, User
from services.catalog.store import service_accounts
from services.catalog.store.writing import add, refused_as
from shared.db.engine import Database
from shared.db.models import identity as tables
from shared.errors import ResourceExists
from shared.identity.actor import ActorKind, Role
from shared.ids import new_id
from shared.outbox.change import Change
from shared.outbox.events import Category

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
        id=new_id(),
        row_version=1,
        created_at=change.now,
        updated_at=change.now,
        name=new.name,
        description=new.description,
        user_id=user.id,
        owner_id=owner.id,
        owner=owner.username,
        role=user.role,
        scopes=tuple(sorted(new.scopes)),
        active=True,
    )
    with refused_as({"uq_service_accounts_name": _taken(new)}):
        await add(
            change.tx,
            tables.ServiceAccount,
            change.now,
            id=account.id,
            user_id=account.user_id,
            owner_id=account.owner_id,
            name=account.name,
            description=account.description,
            scopes=list(account.scopes),
        )
    record_creation(change, "service_account", account, Category.SECURITY)
    return account


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


async def _create_user(change: Change, new: NewServiceAccount) -> User:
    user = User(
        id=new_id(),
        row_version=1,
        created_at=change.now,
        updated_at=change.now,
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
    with refused_as({"uq_users_username": taken, "uq_users_email": taken}):
        await add(
            change.tx,
            tables.User,
            change.now,
            id=user.id,
            username=user.username,
            email=user.email,
            full_name=user.full_name,
            role=user.role,
            kind=user.kind,
        )
    record_creation(change, "user", user, Category.SECURITY)
    return user


def _taken(new: NewServiceAccount) -> ResourceExists:
    return ResourceExists(resource_type="user or service account", resource=new.name)
