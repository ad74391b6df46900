"""The service accounts that the services themselves need, with tokens where they look for them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from services.catalog.operations import api_tokens, service_accounts
from services.catalog.operations.api_tokens import NewApiToken
from services.catalog.operations.service_accounts import NewServiceAccount
from services.catalog.rules.resources import ServiceAccount, User
from services.catalog.store import service_accounts as store
from services.catalog.store import users
from shared.db.engine import Database
from shared.identity.actor import Role
from shared.identity.opaque_tokens import OpaqueToken, digest_of
from shared.outbox.append import append_events
from shared.outbox.change import Change
from shared.outbox.delivery import BY_ITSELF

PRODUCER: Final = "catalog"
SCOPES: Final = ("audit.write", "on_behalf_of")
VALID_FOR = timedelta(days=366)
RENEWED_BEFORE_END = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Purpose:
    """An account by name, and what it is for."""

    name: str
    description: str


INTERNAL: Final = (
    Purpose("catalog", "Delivers the audit entries of the catalog service."),
    Purpose("deployment", "Delivers the audit entries of the deployment service."),
)
TRIAL: Final = Purpose("trial", "Writes audit entries when somebody tries this product out.")


class NobodyToOwn(Exception):
    """There is no active admin who could own a service account; the text says what to do."""


async def bootstrap(db: Database, directory: Path, *, trial: bool = False) -> list[str]:
    """Make what is missing and return the names of the accounts that got a new token.

    A token is written to `<account>.token` in `directory`, which must exist, readable for its owner
    only, after its row is committed: a file never holds a token that does not work. Raises
    NobodyToOwn, and ReferenceInactive for an account that somebody has deactivated.
    """
    purposes = (*INTERNAL, TRIAL) if trial else INTERNAL
    async with db.transaction() as tx:
        # One at a time: replicas may start together, and share the directory.
        await tx.execute(select(func.pg_advisory_xact_lock(func.hashtext("service accounts"))))
        now = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
        change = Change(tx, BY_ITSELF, now)
        issued = await _issue(change, directory, purposes)
        await append_events(tx, producer=PRODUCER, call=None, now=now, events=change.events)
    for name, token in issued.items():
        _write(token_file(directory, name), token)
    return list(issued)


def token_file(directory: Path, account: str) -> Path:
    """Return where the token of an account lies."""
    return directory / f"{account}.token"


async def _issue(
    change: Change, directory: Path, purposes: Sequence[Purpose]
) -> dict[str, OpaqueToken]:
    issued = {}
    for purpose in purposes:
        account = await store.find(change.tx, purpose.name) or await _create(change, purpose)
        if not await _works(change.tx, token_file(directory, purpose.name), account, change.now):
            new = NewApiToken(
                service_account=str(account.id),
                description=f"Made at start, in {purpose.name}.token",
                valid_for=VALID_FOR,
                created_by=None,
            )
            issued[purpose.name] = (await api_tokens.create(change, new)).secret
    return issued


async def _create(change: Change, purpose: Purpose) -> ServiceAccount:
    owner = await _first_admin(change.tx)
    new = NewServiceAccount(
        name=purpose.name,
        description=purpose.description,
        owner=str(owner.id),
        role=Role.VIEWER,
        scopes=SCOPES,
    )
    return await service_accounts.create(change, new)


async def _first_admin(tx: AsyncConnection) -> User:
    admin = await users.first_admin(tx)
    if admin is None:
        raise NobodyToOwn(
            "There is no active admin who could own the service accounts: run `python -m seed`"
            " for sample data, or add a person with the role admin to the table users."
        )
    return admin


async def _works(tx: AsyncConnection, path: Path, account: ServiceAccount, now: datetime) -> bool:
    """Tell whether a file holds a token of the account that will do for a while."""
    token = await store.token_by_hash(tx, digest_of(_read(path)))
    return (
        token is not None
        and token.service_account_id == account.id
        and token.revoked_at is None
        and token.expires_at - now > RENEWED_BEFORE_END
    )


def _read(path: Path) -> str:
    """Return what a file holds; nothing when it is not there, or no text."""
    try:
        return path.read_text().strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


def _write(path: Path, token: OpaqueToken) -> None:
    """Replace a file at once; temporary files are readable for their owner only."""
    with NamedTemporaryFile("w", dir=path.parent, prefix=".new-", delete=False) as file:
        file.write(f"{token.text}\n")
        file.flush()
        os.fsync(file.fileno())
    Path(file.name).replace(path)
