"""What the catalog asks of deployments, which it reads and never changes."""

from sqlalchemy import ColumnElement

from shared.db.models.deployment import Deployment

COMPLETED = "completed"
UNFINISHED = ("pending", "in-progress", "paused", "cancelling")


def unfinished() -> ColumnElement[bool]:
    """Return the condition for deployments that can still run."""
    return Deployment.status.in_(UNFINISHED)
