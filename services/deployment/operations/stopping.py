"""The end of work that was asked to stop: its executor confirms, is lost, or takes too long."""

from collections.abc import Mapping
from typing import Any

from services.deployment.operations import moves
from services.deployment.operations.examine import Examined
from services.deployment.rules.lifecycle import Action, advance
from services.deployment.store import children
from shared.outbox.change import Change


async def finish(
    change: Change, case: Examined, action: str, details: Mapping[str, Any] | None = None
) -> None:
    """End a cancelling deployment: cancelled, or undone if a rollback of it has asked for that."""
    dossier = case.dossier
    touched = dossier.touched_at is not None
    subject = f"Deployment {dossier.id}"
    to = advance(case.status, Action.CONFIRM_CANCELLED, subject=subject, touched=touched)
    carrier = await children.undone_by(change.tx, dossier.id)
    values: dict[str, Any] = {}
    if carrier is not None:
        to = advance(to, Action.ROLL_BACK, subject=subject, touched=touched)
        values["rolled_back_by"] = carrier
    more = {**(details or {}), **values}
    await moves.move(change, dossier, to, action, details=more, **values)
