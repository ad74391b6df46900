"""What a superuser might do to a signed ledger, and how much else is then made to fit it."""

from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from random import Random
from typing import Any, Final

from services.audit.rules.events import microseconds
from services.audit.rules.leaf import commitments, event_digest, leaf_hash
from services.audit.rules.recheck import values_of
from services.audit.rules.tiles import grown
from services.audit.store.appending import Driver
from shared.ids import new_id

ENTRIES: Final = 300
COLUMNS: Final = {
    "event_id": ("gen_random_uuid()",),
    "user_id": ("(SELECT id FROM users WHERE username = 'deployment')",),
    "action": ("action || 's'", "upper(action)", "''"),
    "resource_type": ("'service'",),
    "resource_id": ("resource_id || ' '", "reverse(resource_id)", "''"),
    "details": ("""details || '{"n": 0.5}'""", "details - 'n'", "'{}'", "'{\"more\": null}'"),
    "ip_address": ("'192.0.2.8'", "'2001:db8::8'"),
    "user_agent": ("coalesce(user_agent || ' ', '')",),
    "category": ("'security'", "'access'"),
    "producer": ("'catalog'", "''"),
    "aggregate": (
        "'deployment:x', aggregate_seq = 1",
        "'', aggregate_seq = 0",
        "NULL, aggregate_seq = NULL",
    ),
    "aggregate_seq": ("7, aggregate = coalesce(aggregate, 'deployment:x')",),
    "occurred_at": ("occurred_at + interval '1 microsecond'", "occurred_at - interval '1 day'"),
    "created_at": ("created_at - interval '1 microsecond'", "created_at + interval '1 second'"),
    "salt": ("sha256(salt)", "substring(salt FOR 15)", "'\\x'"),
}
# Values where there was none; where there was one, it is taken away.
PRESENT: Final = {
    "user_id": "(SELECT id FROM users WHERE username = 'deployment')",
    "ip_address": "inet '::1'",
    "user_agent": "'agent'",
}
# What cannot be made to fit anything: columns that follow from others, and values of no encoding.
UNFITTING: Final = {
    "id": ("overlay(id::text PLACING 'f' FROM 28)::uuid",),
    "leaf_index": ("leaf_index + 1000", "-1 - leaf_index"),
    "event_digest": ("sha256(event_digest)",),
    "leaf_hash": ("sha256(leaf_hash)",),
    "updated_at": ("updated_at + interval '1 second'", "updated_at - interval '1 microsecond'"),
    "leaf_version": ("2", "0"),
    "redactions": ("'{}'", """'{"leaf": 1, "fields": {}, "salts": {}}'"""),
    "salt": ("NULL",),
    "occurred_at": ("'infinity'", "'0044-03-15 BC'"),
    "ip_address": ("set_masklen(coalesce(ip_address, '192.0.2.7'), 24)",),
    "details": (
        "'[1]'",
        "replace(details::text, '0.5', '0.50')::jsonb",
        "replace(details::text, '0.5', '0.5000000000000000000001')::jsonb",
        "replace(details::text, '0.5', '1e400')::jsonb",
    ),
}


class Power(IntEnum):
    """What is made to fit the changed rows; each includes those before it."""

    ROWS = 0
    DIGESTS = 1
    LEAVES = 2
    TREE = 3  # the tiles, the head and the keys
    CONTRADICTING = 4  # checkpoints that contradict are gone
    CHECKPOINTS = 5  # all of them are
    OUTSIDE = 6  # and the file outside the database


Tampering = Callable[[Driver, Random], Awaitable[Power]]


async def one_field(owner: Driver, chance: Random) -> Power:
    column = chance.choice(sorted(COLUMNS))
    await _set(owner, chance, column, chance.choice(COLUMNS[column]))
    return Power.OUTSIDE


async def one_field_unfitting(owner: Driver, chance: Random) -> Power:
    column = chance.choice(sorted(UNFITTING))
    await _set(owner, chance, column, chance.choice(UNFITTING[column]))
    return Power.ROWS


async def one_field_absent(owner: Driver, chance: Random) -> Power:
    """Take a value away, or give one where there was none."""
    column = chance.choice(sorted(PRESENT))
    await _set(owner, chance, column, f"CASE WHEN {column} IS NULL THEN {PRESENT[column]} END")
    return Power.OUTSIDE


async def _set(owner: Driver, chance: Random, column: str, value: str) -> None:
    await owner.execute(
        f"UPDATE audit_logs SET {column} = {value} WHERE leaf_index = $1", chance.randrange(ENTRIES)
    )


async def erased(owner: Driver, chance: Random) -> Power:
    """Erase a field as a redaction does, with no entry that orders it."""
    place = chance.randrange(ENTRIES)
    row = await owner.fetchrow(
        "SELECT *, details::text AS details_text FROM audit_logs WHERE leaf_index = $1", place
    )
    assert row is not None
    made = commitments(values_of(dict(row) | {"details": row["details_text"]}), row["salt"])
    await owner.execute(
        "UPDATE audit_logs AS l SET user_id = r.user_id, details = r.details, salt = r.salt,"
        " redactions = r.redactions FROM audit_logs AS e,"
        " audit_redacted(e, $2::text[], $3, $4) AS r WHERE e.leaf_index = $1 AND l.id = e.id",
        *(place, [chance.choice(("user_id", "details"))], b"".join(made), chance.randrange(400)),
    )
    return Power.ROWS


async def deleted(owner: Driver, chance: Random) -> Power:
    first = chance.randrange(ENTRIES)
    end = first + chance.choice((1, 1, 2, 30))
    await owner.execute(
        "DELETE FROM audit_logs WHERE leaf_index >= $1 AND leaf_index < $2", first, end
    )
    return Power.ROWS


async def deleted_and_closed_up(owner: Driver, chance: Random) -> Power:
    place = chance.randrange(ENTRIES)
    await owner.execute("DELETE FROM audit_logs WHERE leaf_index = $1", place)
    await owner.execute(
        "UPDATE audit_logs SET leaf_index = leaf_index - 1 WHERE leaf_index > $1", place
    )
    return Power.OUTSIDE


async def tail_cut(owner: Driver, chance: Random) -> Power:
    size = chance.choice((chance.randrange(ENTRIES), ENTRIES - 1, 256, 0))
    await owner.execute("DELETE FROM audit_logs WHERE leaf_index >= $1", size)
    return Power.OUTSIDE


async def swapped(owner: Driver, chance: Random) -> Power:
    first, second = chance.sample(range(ENTRIES), 2)
    await owner.execute(
        "UPDATE audit_logs SET leaf_index = $1 + $2 - leaf_index WHERE leaf_index IN ($1, $2)",
        *(first, second),
    )
    return Power.OUTSIDE


async def turned_round(owner: Driver, chance: Random) -> Power:
    first, end = sorted(chance.sample(range(ENTRIES), 2))
    await owner.execute(
        "UPDATE audit_logs SET leaf_index = $1 + $2 - leaf_index"
        " WHERE leaf_index BETWEEN $1 AND $2",
        *(first, end),
    )
    return Power.OUTSIDE


async def exchanged(owner: Driver, chance: Random) -> Power:
    """Give two entries each other's content, with salt and digest."""
    content = ("event_id", "user_id", "action", "resource_id", "details", "salt", "event_digest")
    await owner.execute(
        f"UPDATE audit_logs AS a SET {', '.join(f'{column} = b.{column}' for column in content)}"
        " FROM audit_logs AS b"
        " WHERE a.leaf_index IN ($1, $2) AND b.leaf_index = $1 + $2 - a.leaf_index",
        *chance.sample(range(ENTRIES), 2),
    )
    return Power.OUTSIDE


async def inserted_twice(owner: Driver, chance: Random) -> Power:
    place = chance.randrange(ENTRIES)
    await _copied(owner, place, place)
    return Power.ROWS


async def inserted_between(owner: Driver, chance: Random) -> Power:
    place = chance.randrange(ENTRIES)
    await owner.execute(
        "UPDATE audit_logs SET leaf_index = leaf_index + 1 WHERE leaf_index >= $1", place
    )
    await _copied(owner, chance.choice((place + 1, ENTRIES)), place)
    return Power.OUTSIDE


async def inserted_outside(owner: Driver, chance: Random) -> Power:
    to = chance.choice((-1, ENTRIES, ENTRIES + 5, 2**62))
    await _copied(owner, chance.randrange(ENTRIES), to)
    return Power.ROWS


async def _copied(owner: Driver, place: int, to: int) -> None:
    row = await owner.fetchrow("SELECT * FROM audit_logs WHERE leaf_index = $1", place)
    assert row is not None
    # An id of now, as a row of its own; `made_to_fit` gives it the one of its place.
    values = dict(row) | {"id": new_id(), "leaf_index": to, "event_id": new_id()}
    numbers = ", ".join(f"${number}" for number in range(1, len(values) + 1))
    await owner.execute(f"INSERT INTO audit_logs VALUES ({numbers})", *values.values())


TAMPERINGS: Final[Sequence[Tampering]] = (
    *(
        one_field,
        one_field_unfitting,
        one_field_absent,
        erased,
        deleted,
        deleted_and_closed_up,
        tail_cut,
    ),
    *(swapped, turned_round, exchanged, inserted_twice, inserted_between, inserted_outside),
)

ROWS: Final = """
    SELECT a.*, a.details::text AS details_text, a::text IS DISTINCT FROM k::text AS changed
    FROM audit_logs AS a LEFT JOIN kept.audit_logs AS k ON k.id = a.id
    ORDER BY a.leaf_index, a.id
"""


async def made_to_fit(owner: Driver, power: Power, place: int) -> None:
    """Compute anew what follows from the rows, as far as the power goes."""
    if power >= Power.DIGESTS:
        await _rows_made_to_fit(owner, power)
    if power >= Power.TREE:
        await _tree_made_to_fit(owner)
    if power >= Power.CONTRADICTING:
        least = -1 if power >= Power.CHECKPOINTS else place
        await owner.execute("DELETE FROM audit_checkpoints WHERE tree_size > $1", least)


async def _rows_made_to_fit(owner: Driver, power: Power) -> None:
    changes: list[tuple[Any, ...]] = []
    for record in await owner.fetch(ROWS):
        row = dict(record) | {"details": record["details_text"]}
        if not row["changed"]:
            continue
        digest = event_digest(values_of(row), row["salt"])
        leaf, fitting = row["leaf_hash"], row["id"].int
        if power >= Power.LEAVES:
            micros = microseconds(row["created_at"])
            leaf = leaf_hash(row["leaf_index"], micros, digest)
            rest = (0x7000 + micros % 1000 * 4) << 64 | 1 << 63 | row["leaf_index"]
            fitting = micros // 1000 << 80 | rest
        changes.append((row["id"], digest, leaf, fitting.to_bytes(16).hex()))
    # First to ids that nobody has, since some take each other's.
    await owner.executemany(
        "UPDATE audit_logs SET event_digest = $2, leaf_hash = $3, updated_at = created_at,"
        " id = overlay($4::text PLACING 'ffff' FROM 17)::uuid WHERE id = $1",
        changes,
    )
    await owner.executemany(
        "UPDATE audit_logs SET id = $1::text::uuid"
        " WHERE id = overlay($1::text PLACING 'ffff' FROM 17)::uuid",
        [change[3:] for change in changes],
    )


async def _tree_made_to_fit(owner: Driver) -> None:
    leaves = await owner.fetch("SELECT leaf_hash FROM audit_logs ORDER BY leaf_index")
    tiles = grown({}, 0, [row["leaf_hash"] for row in leaves])
    await owner.execute("DELETE FROM merkle_tiles")
    await owner.executemany(
        "INSERT INTO merkle_tiles VALUES ($1, $2, $3)",
        [(*key, hashes) for key, hashes in tiles.items()],
    )
    await owner.execute("UPDATE audit_log_head SET next_index = $1", len(leaves))
    await owner.execute("DELETE FROM audit_event_keys")
    await owner.execute(
        "INSERT INTO audit_event_keys SELECT event_id, producer, aggregate, aggregate_seq,"
        " leaf_index, id, sha256(''), created_at, created_at FROM audit_logs ON CONFLICT DO NOTHING"
    )


DIFFERENCE: Final = """
    SELECT min(coalesce(a.leaf_index, k.leaf_index))
    FROM audit_logs AS a FULL JOIN kept.audit_logs AS k ON k.leaf_index = a.leaf_index
    WHERE a::text IS DISTINCT FROM k::text
"""
KEPT: Final = (
    *("audit_logs", "merkle_tiles", "audit_checkpoints", "audit_log_head", "audit_event_keys"),
    *("audit_epochs", "audit_retirements"),
)


async def keep(owner: Driver) -> None:
    """Take the walls down, and keep a copy of everything beside it."""
    await owner.execute("CREATE SCHEMA kept")
    for table in KEPT:
        await owner.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        await owner.execute(f"CREATE TABLE kept.{table} AS TABLE {table}")


async def put_back(owner: Driver) -> None:
    """Put everything back as it was kept."""
    async with owner.transaction():
        for table in KEPT:
            other = "SELECT FROM {other} AS o WHERE o::text = t::text"
            await owner.execute(
                f"DELETE FROM {table} AS t WHERE NOT EXISTS ({other.format(other=f'kept.{table}')})"
            )
            await owner.execute(
                f"INSERT INTO {table} SELECT * FROM kept.{table} AS t WHERE NOT EXISTS"
                f" ({other.format(other=table)})"
            )


async def first_difference(owner: Driver) -> int | None:
    """Return the first position at which a row is not what was kept."""
    found: int | None = await owner.fetchval(DIFFERENCE)
    return found
