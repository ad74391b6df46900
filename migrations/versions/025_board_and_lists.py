"""Indexes for the board and for the filters and orders of lists of deployments.

The last failure of a pair is one row of an index. Lists are read in the order of an index: what has
not started or ended comes as if it had done so first of all, and what has a status, newest first.

Revision ID: 025
Revises: 024
"""

from alembic import op

revision = "025"
down_revision = "024"
branch_labels = None
depends_on = None

FIRST_OF_ALL = "'1970-01-01 00:00:00+00'::timestamptz"

UPGRADE = (
    """
    CREATE INDEX ix_deployments_failures
        ON deployments (service_id, environment_id, completed_at) WHERE failure_class IS NOT NULL
    """,
    "CREATE INDEX ix_deployments_status_deployed_at ON deployments (status, deployed_at)",
    "DROP INDEX ix_deployments_status",
    f"CREATE INDEX ix_deployments_by_start ON deployments (coalesce(started_at, {FIRST_OF_ALL}))",
    f"CREATE INDEX ix_deployments_by_end ON deployments (coalesce(completed_at, {FIRST_OF_ALL}))",
    "CREATE INDEX ix_deployments_artifact_digest ON deployments (lower(artifact_digest))",
    "CREATE INDEX ix_rollbacks_completed_at ON rollbacks (completed_at)",
)
DOWNGRADE = (
    "DROP INDEX ix_rollbacks_completed_at",
    "DROP INDEX ix_deployments_artifact_digest, ix_deployments_by_end, ix_deployments_by_start",
    "CREATE INDEX ix_deployments_status ON deployments (status)",
    "DROP INDEX ix_deployments_status_deployed_at, ix_deployments_failures",
)


def upgrade() -> None:
    """Add the indexes; one of them replaces that on a status alone."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them."""
    for statement in DOWNGRADE:
        op.execute(statement)
