"""Fingerprints of tables, to prove that nothing was changed."""

from collections.abc import Collection, Mapping

import asyncpg

from shared.setting_values import driver_url

# What the product writes about calls, refused ones included, rather than because of them.
RECORDS = frozenset(
    {
        *("audit_log_head", "audit_event_keys", "audit_logs", "outbox", "login_throttles"),
        *("merkle_tiles", "audit_checkpoints", "witnessed_checkpoints"),
    }
)
# A token's use is noted about once a minute, whatever becomes of the call.
NOTED = {"api_tokens": "- 'last_used_at' - 'updated_at'"}

_TABLES = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    ORDER BY 1
"""


async def fingerprints(
    database_url: str, *, without: Collection[str] = RECORDS
) -> Mapping[str, tuple[int, int]]:
    """Return, for each table, how many rows it has and a sum of hashes of their contents."""
    connection = await asyncpg.connect(driver_url(database_url))
    try:
        found = [row[0] for row in await connection.fetch(_TABLES)]
        return {name: await _fingerprint(connection, name) for name in found if name not in without}
    finally:
        await connection.close()


async def _fingerprint(connection: asyncpg.Connection, table: str) -> tuple[int, int]:
    row = await connection.fetchrow(
        "SELECT count(*), coalesce(sum(hashtextextended("
        f"(to_jsonb(t) {NOTED.get(table, '')})::text, 0)), 0) FROM {table} t"
    )
    assert row is not None
    return row[0], int(row[1])


def changed(
    before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]
) -> Mapping[str, tuple[tuple[int, int], tuple[int, int]]]:
    """Return the tables whose rows differ."""
    return {name: (before[name], after[name]) for name in before if before[name] != after[name]}
