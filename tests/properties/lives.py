"""Whether deployments have lived as the table of their life says, read from the ledger.

The table is written down here once more, from the description and not from the product's rules.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

from tests.properties.evidence import Evidence, Row

ILLEGAL: Final = "a transition outside the table"
BROKEN_CHAIN: Final = "an entry does not begin where the one before it ended"
OTHER_END: Final = "the row is not what its last entry says"
TOLD_TWICE: Final = "one version has several entries"
TWO_HOLDERS: Final = "two held the slot at once"
SELF: Final = "rolled back without having touched its environment"

OPEN: Final = frozenset({"pending", "in-progress", "paused", "cancelling"})
HOLDING: Final = OPEN - {"pending"}
# What leads where. A single call may start a deployment and end or pause it, when its first stage
# is reported with its result; a rollback may undo the holder of the slot in one step.
LEGAL: Final = {
    "pending": {
        *("in-progress", "completed", "failed", "paused"),
        *("cancelled", "rejected", "expired", "superseded"),
    },
    "in-progress": {"completed", "failed", "paused", "cancelled", "cancelling", "rolled_back"},
    "paused": {"in-progress", "failed", "cancelled", "completed", "rolled_back"},
    "cancelling": {"cancelled", "rolled_back"},
    "completed": {"rolled_back"},
    "failed": {"rolled_back"},
    "cancelled": {"rolled_back"},
}


def judged_lives(seen: Evidence) -> list[str]:
    """Return what was wrong with the lives of deployments."""
    rows = {f"deployment:{row['id']}": row for row in seen.deployments}
    wrong: list[str] = []
    for aggregate, entries in seen.by_aggregate().items():
        wrong += [f"{what} ({aggregate})" for what in _life(rows[aggregate], entries)]
    return wrong + list(_holders(seen.deployments))


def _life(row: Row, entries: Sequence[Row]) -> Iterator[str]:
    numbers = [entry["aggregate_seq"] for entry in entries]
    if len(set(numbers)) < len(numbers):
        yield TOLD_TWICE
    steps = [(_status(entry, "before"), _status(entry, "after")) for entry in entries]
    for before, after in steps:
        if before is not None and before != after and after not in LEGAL.get(before, ()):
            yield f"{ILLEGAL}: {before} to {after}"
        if before == "cancelled" and after == "rolled_back" and row["touched_at"] is None:
            yield SELF
    for (_, left), (begun, _) in pairwise(steps):
        if begun != left:
            yield f"{BROKEN_CHAIN}: {left}, then {begun}"
    if steps and steps[-1][1] != row["status"]:
        yield f"{OTHER_END}: {row['status']}, and {steps[-1][1]}"


def _status(entry: Row, side: str) -> str | None:
    told: Any = entry["details"].get(side) or {}
    status: str | None = told.get("status")
    return status


def _holders(deployments: Sequence[Row]) -> Iterator[str]:
    """Find two of one pair whose times in the slot overlap, or that hold it now."""
    pairs: dict[tuple[Any, Any], list[Row]] = {}
    for row in deployments:
        if row["started_at"] is not None:
            pairs.setdefault((row["service_id"], row["environment_id"]), []).append(row)
    for rows in pairs.values():
        if sum(row["status"] in HOLDING for row in rows) > 1:
            yield f"{TWO_HOLDERS}: {[str(row['id']) for row in rows if row['status'] in HOLDING]}"
        in_order = sorted(rows, key=lambda row: (row["started_at"], _end(row)))
        for one, other in pairwise(in_order):
            if other["started_at"] < _end(one):
                yield f"{TWO_HOLDERS}: {one['id']} and {other['id']}"


def _end(row: Row) -> datetime:
    ended: datetime | None = row["completed_at"]
    return ended or datetime.max.replace(tzinfo=row["started_at"].tzinfo)
