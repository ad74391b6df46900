"""When what is due was looked for last, so that leases survive that nobody could be told.

Replicas knew it of themselves only: after all of them had been away, the first one that was back
took work for lost whose executor could not have reported.

Revision ID: 026
Revises: 025
"""

from alembic import op

revision = "026"
down_revision = "025"
branch_labels = None
depends_on = None

UPGRADE = (
    # fillfactor leaves room for the new versions of the one row.
    """
    CREATE TABLE deadline_watch (
        id smallint NOT NULL DEFAULT 1,
        looked_at timestamptz NOT NULL,
        CONSTRAINT pk_deadline_watch PRIMARY KEY (id),
        CONSTRAINT ck_deadline_watch_single CHECK (id = 1)
    ) WITH (fillfactor = 10)
    """,
    "INSERT INTO deadline_watch (looked_at) VALUES (now())",
    "GRANT SELECT, INSERT, UPDATE (looked_at) ON deadline_watch TO rm_deployment",
)


def upgrade() -> None:
    """Create the one row."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop it."""
    op.execute("DROP TABLE deadline_watch")
