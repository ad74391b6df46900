"""Run the migrations: one at a time over all processes, each in a transaction of its own."""

import asyncio

from alembic import context
from alembic.util import CommandError
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shared.db.models import metadata
from shared.settings import SettingsInvalid, read_settings

_LOCK = 7263771  # any number; the same in every process that migrates this database


def is_ours(name: str | None, kind: str, _parents: object) -> bool:
    """Leave the monthly partitions of the ledger out: they are made as time goes by."""
    return not (kind == "table" and name is not None and name.startswith("audit_logs_"))


def migrate(connection: Connection) -> None:
    """Take the migration lock, bound every wait, and apply what is missing."""
    connection.execute(text("SET lock_timeout = '10s'"))
    connection.execute(text("SET statement_timeout = '15min'"))
    connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
    connection.commit()
    try:
        context.configure(
            connection=connection,
            target_metadata=metadata,
            include_name=is_ours,
            transaction_per_migration=True,
        )
        with context.begin_transaction():
            context.run_migrations()
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": _LOCK})
        connection.commit()


async def connect() -> None:
    """Open the one connection that the migrations use."""
    try:
        url = context.config.attributes.get("database_url") or read_settings().database_url
    except SettingsInvalid as error:
        raise CommandError(str(error)) from error
    engine = create_async_engine(url, poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
    await engine.dispose()


asyncio.run(connect())
