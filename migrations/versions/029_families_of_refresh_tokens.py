"""What the refresh tokens of a session have in common, so that used ones need not be kept.

One that is shown long after it was used ends its session; for that all of them were stored as long
as the session, and read at each refresh.

Revision ID: 029
Revises: 028
"""

from alembic import op

revision = "029"
down_revision = "028"
branch_labels = None
depends_on = None

UPGRADE = (
    """
    ALTER TABLE refresh_tokens
        ADD COLUMN family bytea,
        ADD CONSTRAINT ck_refresh_tokens_family CHECK (octet_length(family) = 32)
    """,
    "CREATE INDEX ix_refresh_tokens_family ON refresh_tokens (family)",
    "CREATE INDEX ix_refresh_tokens_session_id_used_at ON refresh_tokens (session_id, used_at)",
    "DROP INDEX ix_refresh_tokens_session_id",
)
DOWNGRADE = (
    "CREATE INDEX ix_refresh_tokens_session_id ON refresh_tokens (session_id)",
    "DROP INDEX ix_refresh_tokens_session_id_used_at, ix_refresh_tokens_family",
    """
    ALTER TABLE refresh_tokens DROP CONSTRAINT ck_refresh_tokens_family, DROP COLUMN family
    """,
)


def upgrade() -> None:
    """Add the column, empty for the tokens that are there, and the indexes."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; used tokens that were not kept are simply not valid then."""
    for statement in DOWNGRADE:
        op.execute(statement)
