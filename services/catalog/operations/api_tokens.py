"""API tokens: parts of a service account, whose version counts them."""

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from services.catalog.operations import resolving
from services.catalog.operations.recording import aggregate
from services.catalog.rules.resources import ApiToken, ServiceAccount
from services.catalog.store import service_accounts
from services.catalog.store.writing import add, change_row, raise_version
from shared.db.engine import Database
from shared.db.keyset import Page, PageRequest
from shared.db.models import identity as tables
from shared.errors import ReferenceInactive, ResourceNotFound
from shared.identity.opaque_tokens import OpaqueToken, new_api_token
from shared.ids import new_id
from shared.outbox.change import Change
from shared.outbox.events import Category, Event


@dataclass(frozen=True, slots=True)
class NewApiToken:
    """A token to be made for a service account; `created_by` is None for the system itself."""

    service_account: str
    description: str
    valid_for: timedelta
    created_by: UUID | None


@dataclass(frozen=True, slots=True)
class Rotation:
    """A token to be replaced; the old one goes on working for `overlap`."""

    token_id: UUID
    valid_for: timedelta
    overlap: timedelta
    created_by: UUID


@dataclass(frozen=True, slots=True)
class IssuedApiToken:
    """A new token: what is stored of it, and the secret that is told only now."""

    stored: ApiToken
    secret: OpaqueToken


@dataclass(frozen=True, slots=True)
class RotatedApiToken:
    """A new token, and the old one as it is now."""

    issued: IssuedApiToken
    replaced: ApiToken


async def create(change: Change, new: NewApiToken) -> IssuedApiToken:
    """Make a token; raises ResourceNotFound, or ReferenceInactive for the account."""
    account = await resolving.service_account_to_change(change.tx, new.service_account)
    return await _issue(change, account, new)


async def rotate(change: Change, wanted: Rotation) -> RotatedApiToken:
    """Make a token with the description of another one, which then ends soon.

    Raises ResourceNotFound, and ReferenceInactive for the account or a token that has ended.
    """
    account, old = await _to_change(change, wanted.token_id)
    if old.revoked_at is not None or old.expires_at <= change.now:
        raise ReferenceInactive(resource_type="API token", resource=old.prefix)
    new = NewApiToken(account.name, old.description, wanted.valid_for, wanted.created_by)
    issued = await _issue(change, account, new, replaces=old.id)
    replaced = replace(old, expires_at=min(old.expires_at, change.now + wanted.overlap))
    await change_row(change.tx, tables.ApiToken, old.id, expires_at=replaced.expires_at)
    await _record(
        change,
        account,
        old.id,
        "rotate",
        replaced_by=issued.stored.id,
        before={"expires_at": old.expires_at},
        after={"expires_at": replaced.expires_at},
    )
    return RotatedApiToken(issued, replaced)


async def _issue(
    change: Change, account: ServiceAccount, new: NewApiToken, **details: UUID
) -> IssuedApiToken:
    if not account.active:
        raise ReferenceInactive(resource_type="service account", resource=account.name)
    secret = new_api_token()
    token = ApiToken(
        id=new_id(),
        service_account_id=account.id,
        description=new.description,
        prefix=secret.prefix,
        expires_at=change.now + new.valid_for,
        revoked_at=None,
        last_used_at=None,
        created_at=change.now,
    )
    await add(
        change.tx,
        tables.ApiToken,
        change.now,
        id=token.id,
        service_account_id=token.service_account_id,
        created_by=new.created_by,
        description=token.description,
        prefix=token.prefix,
        token_hash=secret.digest,
        expires_at=token.expires_at,
    )
    after = {
        "description": token.description,
        "prefix": token.prefix,
        "expires_at": token.expires_at,
    }
    await _record(change, account, token.id, "create", after=after, **details)
    return IssuedApiToken(token, secret)


async def revoke(change: Change, token_id: UUID) -> ApiToken:
    """End a token; one that was revoked stays as it is. Raises ResourceNotFound."""
    account, token = await _to_change(change, token_id)
    if token.revoked_at is not None:
        return token
    await change_row(change.tx, tables.ApiToken, token.id, revoked_at=change.now)
    await _record(change, account, token.id, "revoke", prefix=token.prefix)
    return replace(token, revoked_at=change.now)


async def page(db: Database, account: str, at: PageRequest) -> Page[ApiToken]:
    """Return a page of the tokens of a service account; raises ResourceNotFound."""
    async with db.snapshot() as tx:
        found = await resolving.service_account(tx, account)
        return await service_accounts.tokens(tx, found.id, at)


async def _to_change(change: Change, token_id: UUID) -> tuple[ServiceAccount, ApiToken]:
    """Return the account of a token, locked, and the token as it stands under the lock."""
    token = await service_accounts.token(change.tx, token_id)
    if token is not None:
        account_id = str(token.service_account_id)
        account = await resolving.service_account_to_change(change.tx, account_id)
        token = await service_accounts.token(change.tx, token_id)
    if token is None:
        raise ResourceNotFound(resource_type="API token", resource=token_id)
    return account, token


async def _record(
    change: Change,
    account: ServiceAccount,
    token_id: UUID,
    action: str,
    **details: Any,  # noqa: ANN401  (whatever tells of the act)
) -> None:
    version, _ = await raise_version(change.tx, tables.ServiceAccount, account.id)
    change.record(
        Event(
            action=action,
            aggregate=aggregate("service_account", account.id),
            aggregate_seq=version,
            resource_type="api_token",
            resource_id=str(token_id),
            details={"service_account": account.name, **details},
            category=Category.SECURITY,
        )
    )
