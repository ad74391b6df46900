r"""What may leave the ledger: erased fields, dropped months, and the legal holds against both.

Each is done by a function that locks the head row first, as an append does, and appends the entry
that says so in the same transaction. An update of an entry is let through by a trigger only when it
is exactly a redaction, with that entry there; so it is the trigger that decides, not who asks.

Revision ID: 008
Revises: 007
"""

from alembic import op

from migrations.statements.holds_008 import (
    HOLD_ON,
    HOLD_TYPES,
    PLACE_HOLD,
    RELEASE_HOLD,
    TYPES,
)
from migrations.statements.redaction_008 import REDACT, REDACT_ONLY, REDACTED
from migrations.statements.retirement_008 import DROP_MONTH, MONTH_HELD, RETIRE, SIGNED

revision = "008"
down_revision = "007"
branch_labels = None
depends_on = None

ROLE = "rm_audit_keeper"

HOLDS = """
CREATE TABLE audit_legal_holds (
    id uuid NOT NULL,
    name text NOT NULL,
    user_id uuid,
    action text,
    resource_type text,
    resource_id text,
    start_at timestamptz,
    end_at timestamptz,
    producer text,
    category text,
    details jsonb,
    reason text NOT NULL,
    placed_by uuid NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    released_at timestamptz,
    released_by uuid,
    released_because text,
    CONSTRAINT pk_audit_legal_holds PRIMARY KEY (id),
    CONSTRAINT fk_audit_legal_holds_user_id
        FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT fk_audit_legal_holds_placed_by
        FOREIGN KEY (placed_by) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT fk_audit_legal_holds_released_by
        FOREIGN KEY (released_by) REFERENCES users (id) ON DELETE RESTRICT,
    CONSTRAINT ck_audit_legal_holds_released
        CHECK (num_nulls(released_at, released_by, released_because) IN (0, 3))
)
"""

RETIREMENTS = """
CREATE TABLE audit_retirements (
    month date NOT NULL,
    first_index bigint NOT NULL,
    end_index bigint NOT NULL,
    leaf_index bigint NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    dropped_at timestamptz,
    CONSTRAINT pk_audit_retirements PRIMARY KEY (month),
    CONSTRAINT ck_audit_retirements_month CHECK (extract(day FROM month) = 1),
    CONSTRAINT ck_audit_retirements_interval
        CHECK (first_index >= 0 AND first_index < end_index AND end_index <= leaf_index)
)
"""

# Rows of dropped months, as JSON objects of their columns.
KEPT = """
CREATE TABLE audit_kept_entries (
    leaf_index bigint NOT NULL,
    entry jsonb NOT NULL,
    CONSTRAINT pk_audit_kept_entries PRIMARY KEY (leaf_index)
)
"""

INDEXES = (
    "CREATE UNIQUE INDEX uq_audit_legal_holds_name ON audit_legal_holds (lower(name))",
    *(
        f"CREATE INDEX ix_audit_legal_holds_{column} ON audit_legal_holds ({column})"
        for column in ("user_id", "placed_by", "released_by")
    ),
)

# The columns named by the trigger are NULL at first, and are set once and together.
SET_ONCE = """
CREATE FUNCTION audit_set_once() RETURNS trigger LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_before jsonb := to_jsonb(OLD);
    v_after jsonb := to_jsonb(NEW);
BEGIN
    IF v_before - TG_ARGV = v_after - TG_ARGV AND NOT EXISTS (
        SELECT FROM unnest(TG_ARGV) AS name
        WHERE v_before -> name <> 'null' OR v_after -> name = 'null'
    ) THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$
"""


# In the order of making; those of the second half are what the keeper may call.
FUNCTIONS = {
    "audit_set_once()": SET_ONCE,
    "audit_hold_on(audit_logs)": HOLD_ON,
    "audit_redacted(audit_logs, text[], bytea, bigint)": REDACTED,
    "audit_logs_redact_only()": REDACT_ONLY,
    "audit_signed_entries()": SIGNED,
    "audit_month_held(date)": MONTH_HELD,
    f"audit_redact({TYPES}, bigint, text[], bytea)": REDACT,
    f"audit_retire({TYPES}, date, bigint, bigint)": RETIRE,
    "audit_drop_month(date)": DROP_MONTH,
    f"audit_place_hold({TYPES}, {HOLD_TYPES})": PLACE_HOLD,
    f"audit_release_hold({TYPES}, uuid, uuid, text)": RELEASE_HOLD,
}
CALLED = tuple(FUNCTIONS)[6:]

# ALWAYS: also where session_replication_role switches ordinary triggers off.
TRIGGERS = (
    ("audit_legal_holds", "release_only", "UPDATE", "ROW", "audit_set_once",
     "'released_at', 'released_by', 'released_because'"),
    ("audit_legal_holds", "refuse_rows", "DELETE", "ROW", "audit_logs_refuse", ""),
    ("audit_legal_holds", "refuse_truncate", "TRUNCATE", "STATEMENT", "audit_logs_refuse", ""),
    ("audit_retirements", "drop_once", "UPDATE", "ROW", "audit_set_once", "'dropped_at'"),
    ("audit_retirements", "refuse_rows", "DELETE", "ROW", "audit_logs_refuse", ""),
    ("audit_retirements", "refuse_truncate", "TRUNCATE", "STATEMENT", "audit_logs_refuse", ""),
    ("audit_kept_entries", "refuse_rows", "UPDATE OR DELETE", "ROW", "audit_logs_refuse", ""),
    ("audit_kept_entries", "refuse_truncate", "TRUNCATE", "STATEMENT", "audit_logs_refuse", ""),
    ("audit_logs", "redact_only", "UPDATE", "ROW", "audit_logs_redact_only", ""),
    ("audit_logs", "refuse_rows", "DELETE", "ROW", "audit_logs_refuse", ""),
)  # fmt: skip

CREATE_ROLE = f"""
DO $$ BEGIN
    CREATE ROLE {ROLE} NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
END $$
"""

# Where the role is there already, only its maker may grant it; a login that has it needs no grant.
TAKE_ROLE = f"""
DO $$ BEGIN
    IF NOT pg_has_role(CURRENT_USER, '{ROLE}', 'MEMBER') THEN
        GRANT {ROLE} TO CURRENT_USER;
    END IF;
END $$
"""

DROP_ROLE = f"""
DO $$ BEGIN
    DROP ROLE {ROLE};
EXCEPTION WHEN dependent_objects_still_exist THEN NULL;
END $$
"""

GRANTS = (
    f"GRANT USAGE ON SCHEMA public TO {ROLE}",
    *(f"GRANT EXECUTE ON FUNCTION {function} TO {ROLE}" for function in CALLED),
    "GRANT SELECT ON audit_legal_holds, audit_retirements, audit_kept_entries TO rm_audit_reader",
)


def _trigger(trigger: tuple[str, ...]) -> None:
    table, name, events, each, function, given = trigger
    op.execute(
        f"CREATE TRIGGER {table}_{name} BEFORE {events} ON {table}"
        f" FOR EACH {each} EXECUTE FUNCTION {function}({given})"
    )
    op.execute(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {table}_{name}")


def upgrade() -> None:
    """Make the tables, the functions, the walls, and the role."""
    for statement in (HOLDS, RETIREMENTS, KEPT, *INDEXES):
        op.execute(statement)
    for signature, statement in FUNCTIONS.items():
        op.execute(statement)
        op.execute(f"REVOKE ALL ON FUNCTION {signature} FROM PUBLIC")
    op.execute("DROP TRIGGER audit_logs_refuse_rows ON audit_logs")
    for trigger in TRIGGERS:
        _trigger(trigger)
    for statement in (CREATE_ROLE, TAKE_ROLE, *GRANTS):
        op.execute(statement)


def downgrade() -> None:
    """Let nothing leave the ledger any more. What was erased and dropped does not come back."""
    op.execute(f"DROP OWNED BY {ROLE}")  # its rights in this database; it owns nothing
    op.execute(DROP_ROLE)
    op.execute("DROP TRIGGER audit_logs_redact_only ON audit_logs")
    op.execute("DROP TRIGGER audit_logs_refuse_rows ON audit_logs")
    _trigger(("audit_logs", "refuse_rows", "UPDATE OR DELETE", "ROW", "audit_logs_refuse", ""))
    for signature in reversed(FUNCTIONS):
        if signature != "audit_set_once()":
            op.execute(f"DROP FUNCTION {signature}")
    op.execute("DROP TABLE audit_kept_entries")
    op.execute("DROP TABLE audit_retirements")
    op.execute("DROP TABLE audit_legal_holds")
    op.execute("DROP FUNCTION audit_set_once()")
