"""Telling who watches that something has changed: one NOTIFY for each transaction that changes it.

PostgreSQL delivers it after the commit, or never when there is none. It only wakes: what has
changed is read from the tables, and one that gets lost makes nobody miss anything for long.

Never one for each row: whoever commits a NOTIFY holds a lock that all others who do so wait for.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

# The kinds of aggregates that somebody watches, and the channel on which they hear of them.
CHANNELS: Final = {"deployment": "deployments_changed"}
# PostgreSQL takes less than 8,000 bytes. An id has 36, and a separator.
MOST_IDS: Final = 200
# Instead of ids, when there are too many of them.
MANY: Final = "*"
SEPARATOR: Final = ","

_NOTIFY: Final = text("SELECT pg_notify(:channel, :payload)")


async def announce(tx: AsyncConnection, aggregates: Sequence[str]) -> None:
    """Notify, when this transaction commits, of the aggregates (`kind:id`) that it has changed."""
    for kind, channel in CHANNELS.items():
        prefix = f"{kind}:"
        ids = sorted({name.removeprefix(prefix) for name in aggregates if name.startswith(prefix)})
        if ids:
            payload = SEPARATOR.join(ids) if len(ids) <= MOST_IDS else MANY
            await tx.execute(_NOTIFY, {"channel": channel, "payload": payload})
