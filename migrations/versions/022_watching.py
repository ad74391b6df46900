"""An index by which WatchDeployments finds what was changed since a moment.

Nothing else is needed of the database: a change notifies in its own transaction.

Revision ID: 022
Revises: 021
"""

from alembic import op

revision = "022"
down_revision = "021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.execute("CREATE INDEX ix_deployments_updated_at ON deployments (updated_at)")


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP INDEX ix_deployments_updated_at")
