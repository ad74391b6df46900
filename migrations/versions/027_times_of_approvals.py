"""When a role was taken from somebody, and when nothing could be decided: what approvals wait by.

Both were guessed. Any change of a user, be it the name, counted as the moment at which their
approvals ended; and time went on for approvals that nobody could give.

Revision ID: 027
Revises: 026
"""

from alembic import op

revision = "027"
down_revision = "026"
branch_labels = None
depends_on = None

RANK = "array_position(ARRAY['viewer', 'developer', 'lead', 'admin'], {row}.role)"
LESS_ROLE = f"{RANK.format(row='NEW')} < {RANK.format(row='OLD')}"

UPGRADE = (
    "ALTER TABLE users ADD COLUMN demoted_at timestamptz",
    "GRANT SELECT (demoted_at) ON users TO rm_audit_writer, rm_audit_reader, rm_deployment",
    # Who has lost what is not known, but not after their last change; which this is not.
    "ALTER TABLE users DISABLE TRIGGER USER",
    "UPDATE users SET demoted_at = updated_at",
    "ALTER TABLE users ENABLE TRIGGER USER",
    """
    CREATE FUNCTION note_demotion() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.demoted_at := clock_timestamp();
        RETURN NEW;
    END $$
    """,
    # Of somebody who is not active nothing is left to be taken.
    f"""
    CREATE TRIGGER note_demotion BEFORE UPDATE ON users FOR EACH ROW
        WHEN (OLD.active AND (NOT NEW.active OR {LESS_ROLE}))
        EXECUTE FUNCTION note_demotion()
    """,
    "ALTER TABLE deadline_watch ADD COLUMN stood_still_until timestamptz",
    "GRANT UPDATE (stood_still_until) ON deadline_watch TO rm_deployment",
)
DOWNGRADE = (
    "ALTER TABLE deadline_watch DROP COLUMN stood_still_until",
    "DROP TRIGGER note_demotion ON users",
    "DROP FUNCTION note_demotion()",
    "ALTER TABLE users DROP COLUMN demoted_at",
)


def upgrade() -> None:
    """Add both columns, and the trigger that keeps the first."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop them."""
    for statement in DOWNGRADE:
        op.execute(statement)
