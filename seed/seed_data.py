"""Fill an empty, migrated database with the sample data: `python -m seed`.

The database is the one of DATABASE_URL, and its user the one that migrated it. A database that
holds anything already is left as it is, so running this twice is safe.
"""

import asyncio
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final

import asyncpg

from seed.data_audit import append, entries
from seed.data_catalog import USERNAMES, catalog
from seed.data_deployments import deployments
from seed.rows import IN_ORDER, Connection, insert_all
from shared.identity.hashing import hash_password
from shared.setting_values import driver_url
from shared.settings import SettingsInvalid, settings_or_exit

PASSWORD: Final = "password123"  # noqa: S105  (of the sample users, and documented)
HASHING_THREADS: Final = 2
_EMPTY: Final = "SELECT NOT EXISTS (SELECT FROM users) AND NOT EXISTS (SELECT FROM teams)"
_LOCK: Final = "SELECT pg_advisory_xact_lock(hashtext('release-manager seed'))"


async def seed(database_url: str, bcrypt_rounds: int) -> str:
    """Insert the sample data in one transaction; return what was done, in one sentence.

    Raises asyncpg.ObjectNotInPrerequisiteStateError when only the ledger holds anything.
    """
    connection = await asyncpg.connect(driver_url(database_url))
    try:
        if not await connection.fetchval(_EMPTY):
            return "The database holds data already; nothing was changed."
        hashes = await asyncio.to_thread(_hashes, bcrypt_rounds)
        async with connection.transaction():
            return await _fill(connection, hashes)
    finally:
        await connection.close()


async def _fill(connection: Connection, hashes: dict[str, str]) -> str:
    await connection.execute(_LOCK)
    if not await connection.fetchval(_EMPTY):
        return "The database has been filled at this moment by somebody else."
    # The ledger compares the times of its entries with this clock.
    now = await connection.fetchval("SELECT clock_timestamp()")
    rows = catalog(now, hashes)
    deployments(rows, now)
    await insert_all(connection, rows)
    sealed = entries(rows)
    await append(connection, sealed)
    made = Counter({table: len(rows[table]) for table in IN_ORDER})
    counts = ", ".join(f"{count} {table.replace('_', ' ')}" for table, count in made.items())
    return f"Seeded {counts}, {len(sealed)} audit logs."


def _hashes(rounds: int) -> dict[str, str]:
    """Hash the password for each user, with a salt of its own; bcrypt lets threads run."""
    with ThreadPoolExecutor(HASHING_THREADS) as threads:
        hashes = threads.map(partial(_hash, rounds), USERNAMES)
        return dict(zip(USERNAMES, hashes, strict=True))


def _hash(rounds: int, _username: str) -> str:
    return hash_password(PASSWORD, rounds)


def main() -> int:
    """Seed the database of the settings; return 2 when an operator must change something."""
    settings = settings_or_exit()
    try:
        print(asyncio.run(seed(settings.database_url, settings.bcrypt_rounds)))  # noqa: T201
    except asyncpg.UndefinedTableError:
        return _give_up("The database is not migrated: run `alembic upgrade head` first.")
    except (SettingsInvalid, asyncpg.PostgresError, OSError) as error:
        return _give_up(str(error))
    return 0


def _give_up(reason: str) -> int:
    print(f"Nothing was seeded. {reason}", file=sys.stderr)  # noqa: T201
    return 2


if __name__ == "__main__":
    sys.exit(main())
