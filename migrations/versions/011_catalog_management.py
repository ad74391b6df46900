"""What managing the catalog needs: the archive, and labels, links, search and needs of services.

Revision ID: 011
Revises: 010
"""

from alembic import op

revision = "011"
down_revision = "010"
branch_labels = None
depends_on = None

ARCHIVABLE = ("teams", "services", "environments", "releases", "runbooks")

UPGRADE = (
    *(f"ALTER TABLE {table} ADD COLUMN archived_at timestamptz" for table in ARCHIVABLE),
    """
    ALTER TABLE services
        ADD COLUMN labels jsonb NOT NULL DEFAULT '{}',
        ADD COLUMN links jsonb NOT NULL DEFAULT '[]',
        ADD CONSTRAINT ck_services_labels CHECK (jsonb_typeof(labels) = 'object'),
        ADD CONSTRAINT ck_services_links CHECK (jsonb_typeof(links) = 'array')
    """,
    # Names are split at hyphens too: who looks for "gateway" finds "api-gateway".
    """
    ALTER TABLE services ADD COLUMN words tsvector NOT NULL GENERATED ALWAYS AS (
        setweight(to_tsvector('simple', name || ' ' || translate(name, '-', ' ')), 'A')
        || setweight(to_tsvector('simple', description), 'B')
        || setweight(jsonb_to_tsvector('simple', labels, '["key", "string"]'), 'B')
        || setweight(to_tsvector('simple', translate(repository, '/.:-_', '     ')), 'C')
    ) STORED
    """,
    "CREATE INDEX ix_services_labels ON services USING gin (labels)",
    "CREATE INDEX ix_services_words ON services USING gin (words)",
    """
    CREATE TABLE service_dependencies (
        service_id uuid NOT NULL,
        needs_id uuid NOT NULL,
        minimum_version text NOT NULL DEFAULT '',
        CONSTRAINT pk_service_dependencies PRIMARY KEY (service_id, needs_id),
        CONSTRAINT fk_service_dependencies_service_id
            FOREIGN KEY (service_id) REFERENCES services (id) ON DELETE CASCADE,
        CONSTRAINT fk_service_dependencies_needs_id
            FOREIGN KEY (needs_id) REFERENCES services (id) ON DELETE RESTRICT,
        CONSTRAINT ck_service_dependencies_itself CHECK (service_id <> needs_id)
    )
    """,
    "CREATE INDEX ix_service_dependencies_needs_id ON service_dependencies (needs_id)",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON service_dependencies TO rm_catalog",
    "GRANT SELECT ON service_dependencies TO rm_deployment",
    # To keep a service from being archived while a deployment of it is asked for.
    "GRANT UPDATE (updated_at) ON services TO rm_deployment",
)
DOWNGRADE = (
    "REVOKE UPDATE (updated_at) ON services FROM rm_deployment",
    "DROP TABLE service_dependencies",
    "ALTER TABLE services DROP COLUMN words, DROP COLUMN labels, DROP COLUMN links",
    *(f"ALTER TABLE {table} DROP COLUMN archived_at" for table in reversed(ARCHIVABLE)),
)


def upgrade() -> None:
    """Add the columns, the table, and who may use it."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them again; what was archived is there as before."""
    for statement in DOWNGRADE:
        op.execute(statement)
