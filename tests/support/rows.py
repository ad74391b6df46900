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
# A token's use is noted about once a minute, whatever becomes of the call; a repeated call is noted
# with the answer that it got; and that somebody looked for what is due, every five seconds.
NOTED = {
    "api_tokens": "- 'last_used_at' - 'updated_at'",
    "idempotency_records": "- 'touched_at' - 'updated_at'",
    "deadline_watch": "- 'looked_at'",
}
# What moves when nobody has looked for so long that leases stand still, whatever is called.
STANDING_STILL = frozenset({"deadline_watch", "deployment_leases"})

# For each table, how many rows it has and a sum of hashes of their contents.
Fingerprints = Mapping[str, tuple[int, int]]

ENTRIES = "entries"

# Events on their way to the ledger, or there, and what the ledger has of its own changes, those of
# webhooks included. Denied calls are written about later, and are no changes.
_ENTRIES = """
    SELECT (SELECT count(*) FROM outbox WHERE aggregate NOT LIKE 'denial:%')
        + (SELECT count(*) FROM audit_logs WHERE producer = 'audit'
            AND (category = 'change' OR resource_type = 'webhook'))
"""
_TABLES = """
    SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition
    ORDER BY 1
"""


async def fingerprints(database_url: str, *, without: Collection[str] = RECORDS) -> Fingerprints:
    """Return what the tables have in them at this moment."""
    connection = await asyncpg.connect(driver_url(database_url))
    try:
        return await _fingerprints(connection, without)
    finally:
        await connection.close()


async def contents(database_url: str) -> Fingerprints:
    """Return what the tables have in them, and how many changes the ledger has or will have.

    The latter is called `ENTRIES`.
    """
    connection = await asyncpg.connect(driver_url(database_url))
    try:
        found = await _fingerprints(connection, RECORDS)
        return {**found, ENTRIES: (await connection.fetchval(_ENTRIES), 0)}
    finally:
        await connection.close()


async def _fingerprints(connection: asyncpg.Connection, without: Collection[str]) -> Fingerprints:
    found = [str(row[0]) for row in await connection.fetch(_TABLES)]
    each = (_fingerprint(name) for name in found if name not in without)
    rows = await connection.fetch(" UNION ALL ".join(each))
    return {row[0]: (row[1], int(row[2])) for row in rows}


def _fingerprint(table: str) -> str:
    return (
        f"SELECT '{table}', count(*), coalesce(sum(hashtextextended("
        f"(to_jsonb(t) {NOTED.get(table, '')})::text, 0)), 0) FROM {table} t"
    )


def changed(
    before: Fingerprints, after: Fingerprints
) -> Mapping[str, tuple[tuple[int, int], tuple[int, int]]]:
    """Return the tables whose rows differ because of calls."""
    different = {name for name in before if before[name] != after[name]}
    if "deadline_watch" in different:
        different -= STANDING_STILL
    return {name: (before[name], after[name]) for name in sorted(different)}
