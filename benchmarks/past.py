"""Years of a ledger, made up in the database itself: millions of entries within minutes.

What is read there looks like the real thing: who acts and what is done follow a power law, each
month is a partition, most entries are changes, and some facts are rare on purpose. The hashes are
not those of the entries, so such a ledger cannot be verified, and nothing of it is signed.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from typing import Final
from uuid import UUID

from benchmarks.stage import Owner
from shared.ids import new_id

USERS: Final = 400
# How many entries of a ledger, whatever its size, have something rare: fewer than fit on a page.
RARE: Final = 60
# One entry in so many holds what the name says.
EACH_SECURITY: Final = 41
EACH_ACCESS: Final = 199
ENTRIES_OF_A_RESOURCE: Final = 20
RARE_USER: Final = "rare"
IDLE_USER: Final = "idle"
RARE_PRODUCER: Final = "importer"
RARE_TYPE: Final = "legal_hold"
RARE_ACTION: Final = "rotate"

_ADD_USER = (
    "INSERT INTO users (id, username, email, role, kind, password_hash)"
    " VALUES ($1, $2, $2 || '@past.example.com', 'viewer', 'person', 'none')"
)
_INDEXES = """
    SELECT c.relname AS name,
        replace(pg_get_indexdef(i.indexrelid), ' ON ONLY ', ' ON ') AS definition
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE i.indrelid = 'audit_logs'::regclass AND NOT i.indisprimary
"""
# Chance that can be repeated: a number below 1000 from the entry's position and a seed.
_CHANCE = "abs(hashint8extended(n, {seed})) % 1000"
_ACTIONS = "ARRAY['deploy','approve','create','update','promote','complete','reject','rollback']"
_TYPES = "ARRAY['deployment','release','approval','service','runbook','team']"
_SERVICES = "ARRAY['auth','billing','search','mail','web','orders','stock','maps']"

_FILL = f"""
    INSERT INTO audit_logs (
        id, leaf_index, event_id, user_id, action, resource_type, resource_id, details, ip_address,
        user_agent, category, producer, occurred_at, created_at, updated_at, salt, event_digest,
        leaf_hash
    )
    SELECT (
            lpad(to_hex(micros / 1000), 12, '0') || to_hex(28672 + micros % 1000 * 4)
            || to_hex((-9223372036854775808) | n)
        )::uuid,
        n, ('0190' || lpad(to_hex(n), 28, '0'))::uuid,
        CASE WHEN n % $7::bigint = 7 THEN $5::uuid
             ELSE ($6::uuid[])[1 + (dice * dice / 1000 * {USERS} / 1000)] END,
        CASE WHEN n % $7::bigint = 11 THEN '{RARE_ACTION}'
             ELSE ({_ACTIONS})[1 + dice * dice / 1000 * 8 / 1000] END,
        CASE WHEN n % $7::bigint = 13 THEN '{RARE_TYPE}'
             ELSE ({_TYPES})[1 + other * other / 1000 * 6 / 1000] END,
        ('0190' || lpad(to_hex(n / {ENTRIES_OF_A_RESOURCE}), 28, 'a'))::uuid::text,
        jsonb_build_object(
            'environment', CASE WHEN other % 3 = 0 THEN 'Prod' ELSE 'Staging' END,
            'service', ({_SERVICES})[1 + other % 8], 'version', '2.' || dice || '.' || n % 90,
            'reason', 'scheduled roll-out', 'batch', n / 100,
            'gates', jsonb_build_array(jsonb_build_object('name', 'approval', 'passed', true))
        ) || CASE WHEN n % $7::bigint = 17 THEN '{{"incident": "INC-1", "severity": 1}}'::jsonb
                  ELSE '{{}}' END,
        '10.1.2.3', 'release-manager/1.0',
        CASE WHEN n % {EACH_ACCESS} = 5 THEN 'access' WHEN n % {EACH_SECURITY} = 3 THEN 'security'
             ELSE 'change' END,
        CASE WHEN n % $7::bigint = 19 THEN '{RARE_PRODUCER}' WHEN other % 10 < 4 THEN 'catalog'
             ELSE 'deployment' END,
        at, at, at, '\\x000102030405060708090a0b0c0d0e0f', sha256(int8send(n)), sha256(int8send(-n))
    FROM (
        SELECT n, $1::timestamptz + ($2::timestamptz - $1::timestamptz)
                * ((n - $3::bigint)::float / ($4::bigint - $3::bigint)) AS at,
            {_CHANCE.format(seed=1)} AS dice, {_CHANCE.format(seed=2)} AS other
        FROM generate_series($3::bigint, $4::bigint - 1) AS n
    ) AS chosen, LATERAL (SELECT (extract(epoch FROM at) * 1000000)::bigint AS micros) AS times
"""


@dataclass(frozen=True)
class Past:
    """What was made: how many entries, and the first moment of each month and of what follows."""

    entries: int
    months: tuple[datetime, ...]


async def fill(owner: Owner, entries: int, months: int, until: datetime) -> Past:
    """Fill an empty ledger with entries spread evenly over so many months before `until`'s.

    Indexes are built after the rows, which takes a third of the time.
    """
    starts = tuple(_months_before(until, number) for number in range(months, -1, -1))
    await owner.execute("SELECT audit_ensure_partitions($1, $2)", starts[0].date(), months)
    people = {
        name: new_id() for name in (RARE_USER, IDLE_USER, *map("user{}".format, range(USERS)))
    }
    await owner.executemany(_ADD_USER, [(user_id, name) for name, user_id in people.items()])
    ids = [people[f"user{number}"] for number in range(USERS)]
    indexes = await owner.fetch(_INDEXES)
    for index in indexes:
        await owner.execute(f"DROP INDEX {index['name']}")
    # Neither the look-up of each user nor a sync for each month: nothing here is to be kept.
    await owner.execute("SET session_replication_role = replica; SET synchronous_commit = off")
    for number, (start, end) in enumerate(pairwise(starts)):
        span = (entries * number // months, entries * (number + 1) // months)
        given = (start, end, *span, people[RARE_USER], ids, entries // RARE)
        await owner.execute(_FILL, *given, timeout=3600)
    await owner.execute("RESET session_replication_role; SET maintenance_work_mem = '512MB'")
    for index in indexes:
        await owner.execute(index["definition"], timeout=3600)
    # Of another log, so that no process begins to build and sign a tree over all this.
    await owner.execute(
        "UPDATE audit_log_head SET next_index = $1, last_at = $2, origin = 'benchmark/past'",
        *(entries, starts[-1]),
    )
    await owner.execute("VACUUM (ANALYZE) audit_logs", timeout=3600)
    await owner.execute("CHECKPOINT")
    return Past(entries, starts)


def resource_id(position: int) -> str:
    """Return the resource of the entry at a position."""
    return str(UUID("0190" + f"{position // ENTRIES_OF_A_RESOURCE:x}".rjust(28, "a")))


def _months_before(moment: datetime, number: int) -> datetime:
    month = moment.year * 12 + moment.month - 1 - number
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)
