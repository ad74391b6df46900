"""Entries of past months, put straight into the tables: what readers of a long ledger meet.

Only what reading looks at is genuine; the hashes belong to nothing.
"""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from services.audit.rules.events import microseconds
from shared.ids import new_id

USERS = ("ann", "ben", "eva")
ACTIONS = ("create", "deploy", "approve")
TYPES = ("deployment", "team")
PRODUCERS = ("catalog", "deployment")
CATEGORIES = ("change", "security", "access")
FIRST = datetime(2024, 1, 1, tzinfo=UTC)

_INSERT = """
    INSERT INTO audit_logs (
        id, leaf_index, event_id, user_id, action, resource_type, resource_id, details, category,
        producer, occurred_at, created_at, updated_at, event_digest, leaf_hash
    ) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $11, $12, $12)
"""
_ADD_USER = """
    INSERT INTO users (id, username, email, role, kind, password_hash)
    VALUES ($1, $2, $2 || '@example.com', 'viewer', 'person', 'none')
"""


@dataclass(frozen=True)
class PastEntry:
    """An entry as a filter sees it."""

    leaf_index: int
    created_at: datetime
    user: str | None
    action: str
    resource_type: str
    resource_id: str
    category: str
    producer: str
    details: Mapping[str, Any]

    @property
    def id(self) -> UUID:
        """The id that the ledger would have made."""
        millis, micros = divmod(microseconds(self.created_at), 1000)
        low = (1 << 63) | self.leaf_index
        return UUID(int=millis << 80 | (0x7000 | micros * 4) << 64 | low)


def made_up(count: int, *, months: int, seed: int, gone: int = 0) -> list[PastEntry]:
    """Return entries spread over some months; those of the month `gone` are left out."""
    chance = random.Random(seed)
    step = timedelta(days=30 * months) / count
    entries = []
    for leaf in range(count):
        created_at = FIRST + leaf * step
        if created_at.month == gone:
            continue
        # What one month is full of may be rare in all others.
        favourite = ACTIONS[created_at.month % len(ACTIONS)]
        entries.append(
            PastEntry(
                leaf_index=leaf,
                created_at=created_at,
                user=chance.choice((None, *USERS)),
                action=favourite if chance.random() < 0.8 else chance.choice(ACTIONS),
                resource_type=chance.choice(TYPES),
                resource_id=f"r{chance.randrange(12)}",
                category=chance.choices(CATEGORIES, (8, 2, 3))[0],
                producer=chance.choices(PRODUCERS, (1, 9))[0],
                details=_details(chance, rare=leaf % 97 == 5, dense=created_at.month == 2),
            )
        )
    return entries


def _details(chance: random.Random, *, rare: bool, dense: bool) -> dict[str, Any]:
    details: dict[str, Any] = {
        "environment": chance.choice(("prod", "staging")),
        "count": chance.choice((0, 1, 1.5, -2)),
        "gates": [
            {"name": chance.choice(("freeze", "approval")), "passed": chance.random() < 0.5}
            for _ in range(chance.randrange(3))
        ],
        "nothing": None,
        "empty": {},
    }
    return details | ({"incident": 7} if rare else {}) | ({"moved": True} if dense else {})


async def put_in(
    owner: "asyncpg.Connection[Any]", entries: Sequence[PastEntry], *, size: int
) -> dict[str, UUID]:
    """Make a ledger of `size` positions of entries; return the ids of their users by name.

    Where none are left out, an integrator signs it.
    """
    users = {name: new_id() for name in USERS}
    await owner.executemany(_ADD_USER, [(user_id, name) for name, user_id in users.items()])
    await owner.execute("SELECT audit_ensure_partitions($1, 24)", FIRST.date())
    await owner.executemany(
        _INSERT,
        [
            (
                *(one.id, one.leaf_index, new_id(), users.get(one.user or ""), one.action),
                *(one.resource_type, one.resource_id, json.dumps(one.details), one.category),
                *(one.producer, one.created_at, hashlib.sha256(one.id.bytes).digest()),
            )
            for one in entries
        ],
    )
    await owner.execute(
        "UPDATE audit_log_head SET next_index = $1, last_at = $2", size, entries[-1].created_at
    )
    await owner.execute("ANALYZE audit_logs")
    return users
