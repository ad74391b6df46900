"""Indexes for lists: orders that had none, people by their names, releases of a status in order.

Revision ID: 016
Revises: 015
"""

from alembic import op

revision = "016"
down_revision = "015"
branch_labels = None
depends_on = None

INDEXED = (
    ("teams", "updated_at"),
    ("users", "updated_at"),
    ("environments", "created_at"),
    ("environments", "updated_at"),
    ("services", "tier"),
    ("services", "updated_at"),
    ("runbooks", "updated_at"),
)


def upgrade() -> None:
    """Add the indexes."""
    for table, column in INDEXED:
        op.execute(f"CREATE INDEX ix_{table}_{column} ON {table} ({column})")
    op.execute("CREATE INDEX ix_users_full_name ON users (lower(full_name))")
    op.execute("CREATE INDEX ix_releases_status_created_at ON releases (status, created_at)")
    op.execute("DROP INDEX ix_releases_status")


def downgrade() -> None:
    """Drop them."""
    op.execute("CREATE INDEX ix_releases_status ON releases (status)")
    op.execute("DROP INDEX ix_releases_status_created_at")
    op.execute("DROP INDEX ix_users_full_name")
    for table, column in INDEXED:
        op.execute(f"DROP INDEX ix_{table}_{column}")
