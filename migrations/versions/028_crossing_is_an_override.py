"""A rollback that crosses an irreversible release has an override that says so.

Only the audit trail told of it before: for rollbacks made until now it alone still does.

Revision ID: 028
Revises: 027
"""

from alembic import op

revision = "028"
down_revision = "027"
branch_labels = None
depends_on = None

GATES = ("promotion_order", "soak", "dependency", "freeze", "lock", "queue")
CROSSING = "irreversible"


def upgrade() -> None:
    """Allow it beside the gates."""
    _allow(*GATES, CROSSING)


def downgrade() -> None:
    """Forget these overrides, which the audit trail keeps, and allow the gates alone."""
    op.execute(f"DELETE FROM gate_overrides WHERE gate = '{CROSSING}'")
    _allow(*GATES)


def _allow(*words: str) -> None:
    listed = ", ".join(f"'{word}'" for word in words)
    op.execute("ALTER TABLE gate_overrides DROP CONSTRAINT ck_gate_overrides_gate")
    op.execute(
        "ALTER TABLE gate_overrides ADD CONSTRAINT ck_gate_overrides_gate"
        f" CHECK (gate IN ({listed}))"
    )
