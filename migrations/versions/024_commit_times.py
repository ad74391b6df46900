"""When the commit of a release was made, and the deployments that ended in an interval.

Revision ID: 024
Revises: 023
"""

from alembic import op

revision = "024"
down_revision = "023"
branch_labels = None
depends_on = None

UPGRADE = (
    "ALTER TABLE releases ADD COLUMN commit_time timestamptz",
    "CREATE INDEX ix_releases_commit_time ON releases (commit_time)",
    """
    CREATE INDEX ix_deployments_environment_id_completed_at
        ON deployments (environment_id, completed_at) WHERE completed_at IS NOT NULL
    """,
    """
    CREATE INDEX ix_deployments_service_id_environment_id_completed_at
        ON deployments (service_id, environment_id, completed_at) WHERE completed_at IS NOT NULL
    """,
)
DOWNGRADE = (
    "DROP INDEX ix_deployments_service_id_environment_id_completed_at,"
    " ix_deployments_environment_id_completed_at, ix_releases_commit_time",
    "ALTER TABLE releases DROP COLUMN commit_time",
)


def upgrade() -> None:
    """Add the column, empty for the releases that are there, and the indexes."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; the times that were given are lost."""
    for statement in DOWNGRADE:
        op.execute(statement)
