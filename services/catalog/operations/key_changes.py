"""Replacing the key of access tokens: publish the new one, sign with it, drop the old one later.

Running services look at the key directory by themselves (`shared.identity.token_keys`). So each
step leaves a directory with which every token that is in somebody's hands counts, until a key is
dropped. A command that was killed is completed by giving it again: no key is made twice, and none
is ever overwritten. Each generator yields a sentence after each of its steps.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from sqlalchemy import func, select

from services.catalog.store import commands
from shared.db.engine import Database
from shared.identity import keys as files
from shared.identity.access_tokens import LEEWAY
from shared.identity.keys import Keys, load_keys
from shared.identity.token_keys import LOOK_EVERY_S
from shared.ids import new_id
from shared.outbox.append import append_events
from shared.outbox.events import Category, Event

PRODUCER: Final = "catalog"
KIND: Final = "token_key"
ADDED, DROPPED = 1, 2
"""The versions of a key, as the ledger counts them."""
TOLD: Final = "The audit trail has an entry of it."
PUBLISHED_S: Final = 5.0
"""How long a public key is there before its private one signs, unless the operator says more."""
LONGEST_WAIT_S: Final = 30.0
# Until every replica has noticed that another key signs, with room for a busy machine.
NOTICED: Final = timedelta(seconds=4 * LOOK_EVERY_S)


class CommandRefused(Exception):
    """The command cannot or need not be carried out; the text says why."""


@asynccontextmanager
async def alone(db: Database) -> AsyncIterator[None]:
    """Let no other change of the keys begin before the block is left; raises CommandRefused."""
    async with db.transaction() as tx:
        if not await commands.try_lock(tx, "token keys"):
            raise CommandRefused("Another command changes the keys: wait until it has ended.")
        yield


async def rotate(
    db: Database, directory: Path, *, wait_s: float = PUBLISHED_S, publish_only: bool = False
) -> AsyncGenerator[str, None]:
    """Make a new key the one that signs, `wait_s` after its public half is in the directory.

    With `publish_only` it does not sign yet: giving the command again goes on with it. Raises
    CommandRefused and KeysInvalid.
    """
    async with alone(db):
        current = _signing_kid(load_keys(directory))
        kid = files.prepared_key(directory) or files.prepare_key(directory)
        if kid == current:  # the command was killed at its very end
            files.let_sign(directory, kid)
            yield f"The key {kid} signs."
            return
        if kid < current:
            raise CommandRefused(
                f"The new key {kid} would come before {current}, which signs: the clock of this"
                " machine is behind. Remove the files of the new key when it is right again."
            )
        files.publish_key(directory, kid)
        yield f"The public half of {kid} is in the key directory."
        if publish_only:
            yield "Copy it to the other key directories, and give rotate-token-key again."
            return
        await asyncio.sleep(wait_s)
        yield "The running services have read it."
        await _tell(db, "rotate_key", kid, ADDED, {"replaces": current})
        yield TOLD
        files.let_sign(directory, kid)
        yield f"The key {kid} signs; tokens of {current} count until they expire."


async def drop(
    db: Database, directory: Path, kid: str, *, lifetime: timedelta, at_once: bool = False
) -> AsyncGenerator[str, None]:
    """Let no token of a key count any more.

    Refused while one that has not expired may be in somebody's hands, unless `at_once`; `lifetime`
    is that of a token. Raises CommandRefused and KeysInvalid.
    """
    async with alone(db):
        keys = load_keys(directory)
        current = _signing_kid(keys)
        _check_droppable(keys, kid, current)
        if not at_once:
            _check_expired(directory, kid, lifetime)
        await _tell(db, "drop_key", kid, DROPPED, {"current": current, "at_once": at_once})
        yield TOLD
        files.remove_key(directory, kid)
        yield f"Within {2 * LOOK_EVERY_S:.0f} seconds no token of the key {kid} counts any more."


def _signing_kid(keys: Keys) -> str:
    if keys.signing_kid is None:
        raise CommandRefused(
            "No private key is here: give the command where the catalog service has its keys."
        )
    return keys.signing_kid


def _check_droppable(keys: Keys, kid: str, current: str) -> None:
    if kid not in keys.verifying:
        raise CommandRefused(
            f"There is no key {kid}. There are {', '.join(sorted(keys.verifying))}."
        )
    if kid == current:
        raise CommandRefused("This key signs: replace it with rotate-token-key first.")
    if kid > current:
        raise CommandRefused(
            "This key is being added: give rotate-token-key again to complete that."
        )


def _check_expired(directory: Path, kid: str, lifetime: timedelta) -> None:
    replaced = files.replaced_at(directory, kid)
    last = replaced + NOTICED + lifetime + LEEWAY
    if datetime.now(UTC) < last:
        raise CommandRefused(
            f"Tokens of this key may count until {last:%Y-%m-%dT%H:%M:%SZ}. Wait until then; with"
            " --now, after a theft, they end at once and people must refresh their sessions."
        )


async def _tell(
    db: Database, action: str, kid: str, version: int, details: Mapping[str, object]
) -> None:
    """Record a step unless it was recorded before the command was killed, within a week."""
    name = f"{KIND}:{kid}"
    async with db.transaction() as tx:
        if await commands.is_told(tx, PRODUCER, name, version):
            return
        now = (await tx.execute(select(func.clock_timestamp()))).scalar_one()
        event = Event(
            action=action,
            aggregate=name,
            aggregate_seq=version,
            resource_type=KIND,
            resource_id=kid,
            details=details,
            category=Category.SECURITY,
        )
        await append_events(tx, producer=PRODUCER, call=None, now=now, events=[(new_id(), event)])
