"""Publishing policies and marking releases: why a policy was published, and what the ledger counts.

`row_version` is the number of audit entries that a thing has of its own. A policy that the seed or
an owner of the database wrote, and a mark that a rollback made, have none.

Revision ID: 015
Revises: 014
"""

from alembic import op

revision = "015"
down_revision = "014"
branch_labels = None
depends_on = None

UPGRADE = (
    """
    ALTER TABLE environment_policies
        ADD COLUMN reason text NOT NULL DEFAULT '',
        ADD COLUMN row_version bigint NOT NULL DEFAULT 0
    """,
    "ALTER TABLE release_marks ADD COLUMN row_version bigint NOT NULL DEFAULT 0",
    "CREATE INDEX ix_release_marks_created_at ON release_marks (created_at)",
    # What was in force stays as it was: a decision is bound to it.
    "REVOKE UPDATE, DELETE ON environment_policies FROM rm_deployment",
    "REVOKE DELETE ON release_marks FROM rm_deployment",
)
DOWNGRADE = (
    "GRANT DELETE ON release_marks TO rm_deployment",
    "GRANT UPDATE, DELETE ON environment_policies TO rm_deployment",
    "DROP INDEX ix_release_marks_created_at",
    "ALTER TABLE release_marks DROP COLUMN row_version",
    "ALTER TABLE environment_policies DROP COLUMN row_version, DROP COLUMN reason",
)


def upgrade() -> None:
    """Add the columns and the index, and take rights away that nothing needs."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop the columns; policies and marks stay."""
    for statement in DOWNGRADE:
        op.execute(statement)
