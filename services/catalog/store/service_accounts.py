"""Service accounts and their API tokens, read."""

from uuid import UUID

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.orm import aliased

from services.catalog.rules.resources import ApiToken, ServiceAccount
from services.catalog.store.reading import Filters, one, one_locked, page
from shared.db.keyset import Page, PageRequest, sorted_by
from shared.db.models import identity as tables
from shared.ids import parse_id

_account = tables.ServiceAccount
_owner = aliased(tables.User)
_QUERY = (
    select(
        _account.id,
        _account.name,
        _account.description,
        _account.user_id,
        _account.owner_id,
        _owner.username.label("owner"),
        tables.User.role,
        _account.scopes,
        tables.User.active,
        _account.row_version,
        _account.created_at,
        _account.updated_at,
    )
    .join(tables.User, tables.User.id == _account.user_id)
    .join(_owner, _owner.id == _account.owner_id)
)
_BY_NAME = sorted_by(func.lower(_account.name), _account.id)

_token = tables.ApiToken
_TOKENS = select(
    _token.id,
    _token.service_account_id,
    _token.description,
    _token.prefix,
    _token.expires_at,
    _token.revoked_at,
    _token.last_used_at,
    _token.created_at,
)
_NEWEST_FIRST = sorted_by(_token.created_at, _token.id, descending=True)


async def find(tx: AsyncConnection, reference: str) -> ServiceAccount | None:
    """Return the account with this id or, without regard to case, name."""
    return await one(tx, ServiceAccount, _QUERY.where(_same(reference)))


async def find_locked(tx: AsyncConnection, reference: str) -> ServiceAccount | None:
    """Return the account like `find`, and keep everybody else from changing it."""
    return await one_locked(tx, ServiceAccount, _QUERY, _account, _same(reference))


async def listed(
    tx: AsyncConnection, filters: Filters, wanted: PageRequest
) -> Page[ServiceAccount]:
    """Return a page of the accounts that pass all `filters`, by name."""
    return await page(tx, ServiceAccount, _QUERY.where(*filters), _BY_NAME, wanted)


async def token(tx: AsyncConnection, token_id: UUID) -> ApiToken | None:
    """Return what is stored of an API token."""
    return await one(tx, ApiToken, _TOKENS.where(_token.id == token_id))


async def token_by_hash(tx: AsyncConnection, token_hash: bytes) -> ApiToken | None:
    """Return what is stored of the API token with this digest."""
    return await one(tx, ApiToken, _TOKENS.where(_token.token_hash == token_hash))


async def tokens(tx: AsyncConnection, account_id: UUID, wanted: PageRequest) -> Page[ApiToken]:
    """Return a page of an account's tokens, newest first."""
    query = _TOKENS.where(_token.service_account_id == account_id)
    return await page(tx, ApiToken, query, _NEWEST_FIRST, wanted)


def _same(reference: str) -> ColumnElement[bool]:
    account_id = parse_id(reference)
    if account_id is not None:
        return _account.id == account_id
    return func.lower(_account.name) == func.lower(reference)
