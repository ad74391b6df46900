"""Entries as the quick recheck reads them: each column in the form that costs least to check.

No two values of a column have the same form, so that none passes for another: times as the eight
bytes that PostgreSQL sends, addresses with the length of their mask unless it is that of a host.
"""

import asyncpg

from services.audit.rules.leaf import LEAF_VERSION
from services.audit.store.appending import Driver

# Places of two of the columns.
ACTION, PRODUCER = 10, 17
_ROWS = f"""
    SELECT leaf_index, uuid_send(id), timestamptz_send(created_at),
        leaf_version = {LEAF_VERSION} AND redactions IS NULL AND updated_at = created_at,
        salt, event_digest, leaf_hash, uuid_send(event_id), timestamptz_send(occurred_at),
        user_id::text, action, resource_type, resource_id, details::text, abbrev(ip_address),
        user_agent, category, producer, aggregate, aggregate_seq::text
    FROM audit_logs WHERE leaf_index >= $1 AND leaf_index < $2 ORDER BY leaf_index, id
"""  # noqa: S608  (a number)


async def plain_rows(driver: Driver, first: int, end: int) -> list[asyncpg.Record]:
    """Return the entries of a range in order, for `rules.quick_recheck`."""
    return await driver.fetch(_ROWS, first, end)
