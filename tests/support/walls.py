"""The walls around the ledger's tables, for tests that do what a superuser or a disk may do."""

import asyncpg

_WALLS = """
    SELECT tgrelid::regclass::text AS on_table, tgname FROM pg_trigger
    WHERE tgenabled IN ('A', 'D') AND NOT tgisinternal AND tgparentid = 0
"""


async def take_down(owner: asyncpg.Connection) -> None:
    """Disable every trigger that is always enabled."""
    await _each(owner, "DISABLE")


async def put_up(owner: asyncpg.Connection) -> None:
    """Enable them again."""
    await _each(owner, "ENABLE ALWAYS")


async def lose_end(owner: asyncpg.Connection, size: int, *, tree_too: bool = True) -> None:
    """Take the ledger back to `size` entries, as an old backup or a fail-over does.

    Without `tree_too`, entries are lost that the tree and its checkpoints still have.
    """
    await take_down(owner)
    await owner.execute("DELETE FROM audit_logs WHERE leaf_index >= $1", size)
    await owner.execute("UPDATE audit_log_head SET next_index = $1", size)
    if tree_too:
        await owner.execute("DELETE FROM audit_event_keys WHERE leaf_index >= $1", size)
        await owner.execute("DELETE FROM audit_checkpoints WHERE tree_size > $1", size)
        signed = await owner.fetchval("SELECT coalesce(max(tree_size), 0) FROM audit_checkpoints")
        await owner.execute(
            "DELETE FROM merkle_tiles WHERE tile * 256 >= $1::bigint >> (8 * level)", signed
        )
        await owner.execute(
            "UPDATE merkle_tiles SET hashes = substring(hashes FOR"
            " 32 * least(256, ($1::bigint >> (8 * level)) - tile * 256)::integer)",
            signed,
        )
    await put_up(owner)


async def _each(owner: asyncpg.Connection, what: str) -> None:
    for trigger in await owner.fetch(_WALLS):
        await owner.execute(f"ALTER TABLE {trigger['on_table']} {what} TRIGGER {trigger['tgname']}")
