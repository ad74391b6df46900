"""The gate of locks: who has locked what, why and until when."""

from datetime import datetime
from typing import Final

from services.deployment.rules import locks
from services.deployment.rules.gates.facts import Gate, GateAnswer, GateFacts, GateStatus
from services.deployment.rules.moments import in_minute

MOST_LOCKS: Final = 5


def lock(facts: GateFacts, now: datetime) -> GateAnswer:
    """Say whether a lock keeps the deployment from starting, the newest first."""
    held = locks.holding(facts.locks, now)
    if not held:
        return GateAnswer(Gate.LOCK, GateStatus.SATISFIED, "nothing is locked here")
    closed = locks.against(held, facts.kind)
    if not closed:
        why = f"the lock on {held[0].place} lets rollbacks pass"
        return GateAnswer(Gate.LOCK, GateStatus.NOT_APPLICABLE, why)
    shown, others = closed[:MOST_LOCKS], len(closed) - MOST_LOCKS
    more = f"; and {others} more" if others > 0 else ""
    ends = [one.ends_at for one in closed if one.ends_at is not None]
    return GateAnswer(
        Gate.LOCK,
        GateStatus.UNSATISFIED,
        "; ".join(_told(one) for one in shown) + more,
        f"ReleaseLock {', '.join(str(one.id) for one in shown)}{more}.",
        earliest=max(ends) if len(ends) == len(closed) else None,
    )


def _told(one: locks.Lock) -> str:
    until = "" if one.ends_at is None else f" until {in_minute(one.ends_at)}"
    return f"{one.locked_by} has locked {one.place}{until} ({one.reason})"
