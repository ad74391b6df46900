"""The database as services use it: a transaction to change something, a snapshot to read.

Leaving a transaction's block commits, an exception rolls back; nothing else commits.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine

from shared.setting_values import driver_url

STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 5_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 60_000
CONNECT_TIMEOUT_S = 5.0
# As long as a lock may take: whoever waits for a connection mostly waits for such a lock.
POOL_TIMEOUT_S = 5.0
COMMAND_TIMEOUT_S = 35.0


class Database:
    """A pool of connections under one role.

    `url` is a SQLAlchemy URL for asyncpg, with several hosts where there are several. `role` is
    taken with SET ROLE when a connection is made, so that one login serves all services and each
    has only its own rights. `settings` are further ones of PostgreSQL, such as `enable_sort`.
    """

    def __init__(
        self,
        url: str,
        *,
        role: str | None,
        application_name: str,
        pool_size: int = 10,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare the pool; the first use connects."""
        given = {
            "application_name": application_name,
            "statement_timeout": str(STATEMENT_TIMEOUT_MS),
            "lock_timeout": str(LOCK_TIMEOUT_MS),
            "idle_in_transaction_session_timeout": str(IDLE_IN_TRANSACTION_TIMEOUT_MS),
            "timezone": "UTC",
            "jit": "off",
            **(settings or {}),
        }
        self.role = role
        if role is not None:
            given["role"] = role
        self._url = url
        self._given = given
        self.engine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_S,
            pool_pre_ping=False,
            # The text of an error is logged, and values may be hashes, addresses, whole events.
            hide_parameters=True,
            connect_args={
                "server_settings": given,
                "timeout": CONNECT_TIMEOUT_S,
                "command_timeout": COMMAND_TIMEOUT_S,
            },
        )
        self._snapshots = self.engine.execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        )
        self._statements = self.engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """Open a READ COMMITTED transaction; commit on leaving, roll back on an exception."""
        async with self.engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[AsyncConnection]:
        """Open a read-only transaction whose statements all see one state of the database."""
        async with self._snapshots.begin() as connection:
            yield connection

    @asynccontextmanager
    async def statements(self) -> AsyncIterator[AsyncConnection]:
        """Open a connection on which each statement is a transaction of its own.

        For reads that need no common state: it saves the round trips of BEGIN and COMMIT.
        """
        async with self._statements.connect() as connection:
            yield connection

    @asynccontextmanager
    async def session(self) -> AsyncIterator[asyncpg.Connection]:
        """Open a connection beside the pool, for what lives as long as a session, such as LISTEN.

        It is the driver's, and is dropped on leaving the block.
        """
        connection = await asyncpg.connect(
            driver_url(self._url),
            timeout=CONNECT_TIMEOUT_S,
            command_timeout=COMMAND_TIMEOUT_S,
            server_settings=self._given,
        )
        try:
            yield connection
        finally:
            connection.terminate()

    async def is_ready(self) -> bool:
        """Tell whether the database answers at this moment."""
        try:
            async with self.engine.connect() as connection:
                await connection.execute(text("SELECT 1"))
        except Exception:  # noqa: BLE001  (whatever hinders a SELECT 1 is the answer)
            return False
        return True

    async def close(self) -> None:
        """Close every connection."""
        await self.engine.dispose()
