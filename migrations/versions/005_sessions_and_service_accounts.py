"""Sessions of people and accounts of programs, with the tokens of both stored as hashes.

Revision ID: 005
Revises: 004
"""

from alembic import op

revision = "005"
down_revision = "004"
branch_labels = None
depends_on = None

TABLES = ("sessions", "refresh_tokens", "service_accounts", "api_tokens")

UPGRADE = (
    """
    CREATE TABLE sessions (
        id uuid NOT NULL,
        user_id uuid NOT NULL,
        row_version bigint NOT NULL DEFAULT 0,
        revoked_at timestamptz,
        revoked_because text,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_sessions PRIMARY KEY (id),
        CONSTRAINT fk_sessions_user_id
            FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE,
        CONSTRAINT ck_sessions_revoked CHECK ((revoked_at IS NULL) = (revoked_because IS NULL))
    )
    """,
    "CREATE INDEX ix_sessions_user_id ON sessions (user_id)",
    """
    CREATE TABLE refresh_tokens (
        id uuid NOT NULL,
        session_id uuid NOT NULL,
        token_hash bytea NOT NULL,
        expires_at timestamptz NOT NULL,
        used_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_refresh_tokens PRIMARY KEY (id),
        CONSTRAINT fk_refresh_tokens_session_id
            FOREIGN KEY (session_id) REFERENCES sessions (id) ON DELETE CASCADE,
        CONSTRAINT uq_refresh_tokens_token_hash UNIQUE (token_hash),
        CONSTRAINT ck_refresh_tokens_token_hash CHECK (octet_length(token_hash) = 32)
    )
    """,
    "CREATE INDEX ix_refresh_tokens_session_id ON refresh_tokens (session_id)",
    "CREATE INDEX ix_refresh_tokens_expires_at ON refresh_tokens (expires_at)",
    """
    CREATE TABLE service_accounts (
        id uuid NOT NULL,
        user_id uuid NOT NULL,
        owner_id uuid NOT NULL,
        name text NOT NULL,
        description text NOT NULL DEFAULT '',
        scopes text[] NOT NULL DEFAULT '{}',
        row_version bigint NOT NULL DEFAULT 0,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_service_accounts PRIMARY KEY (id),
        CONSTRAINT fk_service_accounts_user_id
            FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT fk_service_accounts_owner_id
            FOREIGN KEY (owner_id) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT uq_service_accounts_user_id UNIQUE (user_id)
    )
    """,
    "CREATE UNIQUE INDEX uq_service_accounts_name ON service_accounts (lower(name))",
    "CREATE INDEX ix_service_accounts_owner_id ON service_accounts (owner_id)",
    """
    CREATE TABLE api_tokens (
        id uuid NOT NULL,
        service_account_id uuid NOT NULL,
        created_by uuid,
        description text NOT NULL,
        prefix text NOT NULL,
        token_hash bytea NOT NULL,
        expires_at timestamptz NOT NULL,
        revoked_at timestamptz,
        last_used_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        CONSTRAINT pk_api_tokens PRIMARY KEY (id),
        CONSTRAINT fk_api_tokens_service_account_id
            FOREIGN KEY (service_account_id) REFERENCES service_accounts (id) ON DELETE CASCADE,
        CONSTRAINT fk_api_tokens_created_by
            FOREIGN KEY (created_by) REFERENCES users (id) ON DELETE RESTRICT,
        CONSTRAINT uq_api_tokens_token_hash UNIQUE (token_hash),
        CONSTRAINT ck_api_tokens_token_hash CHECK (octet_length(token_hash) = 32)
    )
    """,
    "CREATE INDEX ix_api_tokens_service_account_id ON api_tokens (service_account_id, created_at)",
    "CREATE INDEX ix_api_tokens_created_by ON api_tokens (created_by)",
    "GRANT SELECT, INSERT, UPDATE, DELETE"
    " ON sessions, refresh_tokens, service_accounts, api_tokens TO rm_catalog",
    "GRANT SELECT ON sessions, service_accounts, api_tokens"
    " TO rm_deployment, rm_audit_writer, rm_audit_reader",
    "GRANT UPDATE (last_used_at) ON api_tokens TO rm_deployment, rm_audit_writer, rm_audit_reader",
)


def upgrade() -> None:
    """Create the four tables."""
    for statement in UPGRADE:
        op.execute(statement)
    for table in TABLES:
        op.execute(
            f"CREATE TRIGGER touch_updated_at BEFORE UPDATE ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION touch_updated_at()"
        )


def downgrade() -> None:
    """Drop the four tables."""
    for table in reversed(TABLES):
        op.execute(f"DROP TABLE {table}")
