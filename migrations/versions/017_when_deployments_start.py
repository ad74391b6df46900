"""When a deployment may start at the earliest, by when it must have started, and who waits in line.

Revision ID: 017
Revises: 016
"""

from alembic import op

revision = "017"
down_revision = "016"
branch_labels = None
depends_on = None

UPGRADE = (
    """
    ALTER TABLE deployments
        ADD COLUMN not_before timestamptz,
        ADD COLUMN start_by timestamptz,
        ADD CONSTRAINT ck_deployments_start_times CHECK (not_before < start_by)
    """,
    """
    CREATE INDEX ix_deployments_waiting ON deployments (service_id, environment_id, deployed_at)
        WHERE status = 'pending'
    """,
)
DOWNGRADE = (
    "DROP INDEX ix_deployments_waiting",
    "ALTER TABLE deployments DROP COLUMN start_by, DROP COLUMN not_before",
)


def upgrade() -> None:
    """Add the columns and the index; what waits already may start at any time."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; what waits may start at any time then."""
    for statement in DOWNGRADE:
        op.execute(statement)
