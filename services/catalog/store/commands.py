"""What commands beside the service need of the database: one at a time, and what was told."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from shared.db.models.outbox import OutboxEvent


async def try_lock(tx: AsyncConnection, commands: str) -> bool:
    """Let no other of these commands run until the transaction ends; False when one runs."""
    lock = select(func.pg_try_advisory_xact_lock(func.hashtext(commands)))
    return bool((await tx.execute(lock)).scalar_one())


async def is_told(tx: AsyncConnection, producer: str, aggregate: str, sequence: int) -> bool:
    """Tell whether the outbox has the event of a version of an aggregate.

    A delivered one stays there for a week (`shared.outbox.purge`); later only the ledger knows.
    """
    found = select(OutboxEvent.id).where(
        OutboxEvent.producer == producer,
        OutboxEvent.aggregate == aggregate,
        OutboxEvent.aggregate_seq == sequence,
    )
    return (await tx.execute(found)).first() is not None
