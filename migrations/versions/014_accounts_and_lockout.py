"""Passwords that must be changed, where sessions come from, and log-ins slowed down by failures.

Revision ID: 014
Revises: 013
"""

from alembic import op

revision = "014"
down_revision = "013"
branch_labels = None
depends_on = None

READERS = "rm_deployment, rm_audit_writer, rm_audit_reader"
UPGRADE = (
    "ALTER TABLE users ADD COLUMN password_change_required boolean NOT NULL DEFAULT false",
    """
    ALTER TABLE users ADD CONSTRAINT ck_users_password_change
        CHECK (kind = 'person' OR NOT password_change_required)
    """,
    f"GRANT SELECT (password_change_required) ON users TO {READERS}",
    """
    ALTER TABLE sessions
        ADD COLUMN ip_address text,
        ADD COLUMN user_agent text,
        ADD COLUMN refreshed_at timestamptz
    """,
    "CREATE INDEX ix_sessions_created_at ON sessions (created_at)",
    """
    CREATE TABLE login_throttles (
        account text NOT NULL,
        source text NOT NULL,
        failures integer NOT NULL DEFAULT 0,
        refused bigint NOT NULL DEFAULT 0,
        compared_at timestamptz[] NOT NULL DEFAULT '{}',
        delayed_until timestamptz,
        locked_at timestamptz,
        recorded text,
        reported_at timestamptz,
        suppressed bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_login_throttles PRIMARY KEY (account, source),
        CONSTRAINT ck_login_throttles_counts
            CHECK (failures >= 0 AND refused >= 0 AND suppressed >= 0),
        CONSTRAINT ck_login_throttles_recorded CHECK (recorded IN ('delay', 'stop'))
    )
    """,
    "CREATE INDEX ix_login_throttles_updated_at ON login_throttles (updated_at)",
    "CREATE TRIGGER touch_updated_at BEFORE UPDATE ON login_throttles"
    " FOR EACH ROW EXECUTE FUNCTION touch_updated_at()",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON login_throttles TO rm_catalog",
)
DOWNGRADE = (
    "DROP TABLE login_throttles",
    "DROP INDEX ix_sessions_created_at",
    "ALTER TABLE sessions DROP COLUMN ip_address, DROP COLUMN user_agent, DROP COLUMN refreshed_at",
    "ALTER TABLE users DROP COLUMN password_change_required",
)


def upgrade() -> None:
    """Add the columns and the table."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them."""
    for statement in DOWNGRADE:
        op.execute(statement)
