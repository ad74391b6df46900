"""What the tables and the ledger have of the deployments of some services, read by the owner."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg

from tests.properties.witness import Facts

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Evidence:
    """Rows, entries of the ledger in its order, and what was witnessed of starts."""

    deployments: Sequence[Row]
    entries: Sequence[Row]
    starts: Sequence[Facts]

    def by_aggregate(self) -> dict[str, list[Row]]:
        """Return the entries of each aggregate in the order of their sequence."""
        found: dict[str, list[Row]] = {f"deployment:{row['id']}": [] for row in self.deployments}
        for entry in self.entries:
            found.setdefault(entry["aggregate"], []).append(entry)
        return {
            name: sorted(entries, key=lambda entry: entry["aggregate_seq"])
            for name, entries in found.items()
        }


async def evidence(owner: asyncpg.Pool, services: Collection[UUID]) -> Evidence:
    """Read everything about the deployments of these services."""
    chosen = list(services)
    deployments = await owner.fetch(
        "SELECT d.*, e.environment_type FROM deployments d"
        " JOIN environments e ON e.id = d.environment_id WHERE d.service_id = ANY ($1)",
        chosen,
    )
    entries = await owner.fetch(
        "SELECT a.leaf_index, a.event_id::text AS event_id, a.aggregate, a.aggregate_seq, a.action,"
        " a.details FROM audit_logs a JOIN deployments d ON a.aggregate = 'deployment:' || d.id"
        " WHERE d.service_id = ANY ($1) AND a.producer = 'deployment' ORDER BY a.leaf_index",
        chosen,
    )
    starts = await owner.fetch(
        "SELECT facts FROM witnessed WHERE service_id = ANY ($1) ORDER BY id", chosen
    )
    return Evidence(
        [dict(row) for row in deployments],
        [dict(row) for row in entries],
        [row["facts"] for row in starts],
    )


VERSIONS = """
    SELECT a.name, a.version, coalesce(l.entries, 0) AS entries, coalesce(l.dense, true) AS dense
    FROM (
        SELECT 'deployment:' || id AS name, row_version AS version FROM deployments
        UNION ALL SELECT 'release_mark:' || id, row_version FROM release_marks
        UNION ALL SELECT 'lock:' || id, row_version FROM locks
        UNION ALL SELECT 'gate_override:' || id, row_version FROM gate_overrides
        UNION ALL SELECT 'freeze_window:' || id, row_version FROM freeze_windows
        UNION ALL SELECT 'policy:' || environment_id, max(row_version)
            FROM environment_policies GROUP BY environment_id
    ) a FULL JOIN (
        SELECT aggregate AS name, count(*) AS entries,
            array_agg(aggregate_seq ORDER BY aggregate_seq)
                = array_agg(place ORDER BY place) AS dense
        FROM (
            SELECT aggregate, aggregate_seq,
                row_number() OVER (PARTITION BY aggregate ORDER BY aggregate_seq) AS place
            FROM audit_logs WHERE producer = 'deployment' AND category = 'change'
        ) numbered GROUP BY aggregate
    ) l USING (name)
    WHERE a.version IS DISTINCT FROM coalesce(l.entries, 0) OR NOT coalesce(l.dense, true)
"""
"""Every aggregate of the deployment service whose versions and entries are not the same."""


async def unmatched_versions(owner: asyncpg.Pool) -> list[str]:
    """Return what has a version without its entry, an entry without its version, or a gap."""
    rows = await owner.fetch(VERSIONS)
    return [f"{UNMATCHED}: {dict(row)}" for row in rows]


UNMATCHED = "versions and entries differ"
