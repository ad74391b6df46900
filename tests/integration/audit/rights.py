"""Who may do what to the ledger: every table and function, every role, everything else forbidden.

What is not listed here must be refused. A table, function or role that is new makes the tests of
this table fail until somebody has decided about it.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

WRITER: Final = "rm_audit_writer"
READER: Final = "rm_audit_reader"
INTEGRATOR: Final = "rm_audit_integrator"
KEEPER: Final = "rm_audit_keeper"
NOTIFIER: Final = "rm_audit_notifier"
OTHERS: Final = ("rm_catalog", "rm_deployment")
# A login that belongs to no role of the product: what PUBLIC may.
STRANGER: Final = "stranger"
ROLES: Final = (WRITER, READER, INTEGRATOR, KEEPER, NOTIFIER, *OTHERS, STRANGER)

TABLES: Final = (
    "audit_logs",
    "audit_log_head",
    "audit_event_keys",
    "merkle_tiles",
    "audit_checkpoints",
    "audit_epochs",
    "audit_legal_holds",
    "audit_retirements",
    "audit_kept_entries",
    "witnessed_checkpoints",
)
WHOLE: Final = "*"
# By role, table and what is done: the columns, or WHOLE.
MAY: Final[Mapping[tuple[str, str, str], str]] = {
    (READER, "audit_logs", "SELECT"): WHOLE,
    (READER, "audit_log_head", "SELECT"): WHOLE,
    (READER, "audit_event_keys", "SELECT"): (
        "event_id producer aggregate aggregate_seq leaf_index audit_log_id created_at"
    ),
    (READER, "merkle_tiles", "SELECT"): WHOLE,
    (READER, "audit_checkpoints", "SELECT"): WHOLE,
    (INTEGRATOR, "audit_logs", "SELECT"): "leaf_index leaf_hash",
    (INTEGRATOR, "audit_log_head", "SELECT"): WHOLE,
    (INTEGRATOR, "merkle_tiles", "SELECT"): WHOLE,
    (INTEGRATOR, "merkle_tiles", "INSERT"): WHOLE,
    (INTEGRATOR, "merkle_tiles", "UPDATE"): "hashes",
    (INTEGRATOR, "audit_checkpoints", "SELECT"): WHOLE,
    (INTEGRATOR, "audit_checkpoints", "INSERT"): WHOLE,
    (INTEGRATOR, "audit_epochs", "SELECT"): WHOLE,
    (READER, "audit_epochs", "SELECT"): WHOLE,
    (READER, "audit_legal_holds", "SELECT"): WHOLE,
    (READER, "audit_retirements", "SELECT"): WHOLE,
    (READER, "audit_kept_entries", "SELECT"): WHOLE,
    # The checkpoints that the other services have seen, by which they would find a fork.
    **{
        (role, "witnessed_checkpoints", action): WHOLE
        for role in OTHERS
        for action in ("SELECT", "INSERT", "UPDATE")
    },
}
NOWHERE: Final = "00000000-0000-0000-0000-000000000000"
# By function: who may call it, and arguments that do no harm. Refused calls are tried with them.
CALLS: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "audit_append": ((WRITER, NOTIFIER), ""),
    "audit_append_batch": ((), ""),
    "audit_append_past": ((), ""),
    "audit_ensure_partitions": ((WRITER,), "DATE '2021-05-01', 1"),
    "audit_id_floor": ((), "now()"),
    "audit_logs_refuse": ((), ""),
    "audit_new_epoch": ((), ""),
    "audit_details_matches": ((READER,), f"'{{}}', '{NOWHERE}', '{NOWHERE}', 0, 0, 1"),
    "audit_redact": ((KEEPER,), ""),
    "audit_retire": ((KEEPER,), ""),
    "audit_drop_month": ((KEEPER,), "DATE '2019-01-01'"),
    "audit_place_hold": ((KEEPER,), ""),
    "audit_release_hold": ((KEEPER,), ""),
    "audit_hold_on": ((), ""),
    "audit_redacted": ((), ""),
    "audit_month_held": ((), "DATE '2019-01-01'"),
    "audit_signed_entries": ((), ""),
    "audit_logs_redact_only": ((), ""),
    "audit_set_once": ((), ""),
    "merkle_tiles_grow_only": ((), ""),
    # What releases are sorted by.
    "number_key": (("rm_catalog", "rm_deployment"), "'7'"),
    "version_key": (("rm_catalog", "rm_deployment"), "'1.0.0'"),
    # Triggers of other tables, which cannot be called.
    "touch_updated_at": (ROLES, ""),
    "note_demotion": (ROLES, ""),
}
# Secrets of other tables: by column, who may read it.
SECRETS: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("users", "password_hash"): ("rm_catalog",),
    ("refresh_tokens", "token_hash"): ("rm_catalog",),
    ("refresh_tokens", "family"): ("rm_catalog",),
    ("api_tokens", "token_hash"): ("rm_catalog", "rm_deployment", WRITER, READER),
}


class Attempt(NamedTuple):
    """A statement, and whether the role may execute it."""

    statement: str
    allowed: bool


def column_allowed(role: str, table: str, action: str, column: str) -> bool:
    """Tell whether a role may do something with a column of a table."""
    columns = MAY.get((role, table, action), "")
    return columns == WHOLE or column in columns.split()


def attempts(role: str, table: str, columns: list[str], parent: str | None) -> Iterator[Attempt]:
    """Yield what a role might try with a table; partitions have no rights of their own."""
    for column in columns:
        yield Attempt(
            f"SELECT {column} FROM {table}", column_allowed(role, table, "SELECT", column)
        )
        yield Attempt(
            f"UPDATE {table} SET {column} = DEFAULT", column_allowed(role, table, "UPDATE", column)
        )
    for column in columns[:1]:
        may = column_allowed(role, table, "INSERT", column)
        yield Attempt(f"INSERT INTO {table} ({column}) VALUES (DEFAULT)", may)
        yield Attempt(f"INSERT INTO {table} DEFAULT VALUES ON CONFLICT DO NOTHING", may)
        yield Attempt(f"COPY {table} ({column}) FROM STDIN", may)
        yield Attempt(
            f"COPY {table} ({column}) TO STDOUT", column_allowed(role, table, "SELECT", column)
        )
    # Who may update all of a table may lock it.
    yield Attempt(
        f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
        MAY.get((role, table, "UPDATE")) == WHOLE,
    )
    for action in (
        "DELETE FROM {table}",
        "DELETE FROM ONLY {table}",
        "TRUNCATE {table}",
        "TRUNCATE ONLY {table} CASCADE",
        "MERGE INTO {table} USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
        "ALTER TABLE {table} DISABLE TRIGGER ALL",
        "ALTER TABLE {table} OWNER TO CURRENT_USER",
        "ALTER TABLE {table} ADD COLUMN more int",
        "ALTER TABLE {table} RENAME TO renamed",
        "ALTER TABLE {table} SET SCHEMA pg_catalog",
        "ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        (
            "CREATE TRIGGER mine BEFORE INSERT ON {table}"
            " FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()"
        ),
        "CREATE RULE mine AS ON INSERT TO {table} DO INSTEAD NOTHING",
        "CREATE INDEX ON {table} ((1))",
        "CREATE POLICY mine ON {table}",
        "REINDEX TABLE {table}",
        "DROP TABLE {table} CASCADE",
    ):
        yield Attempt(action.format(table=table), allowed=False)
    if parent is not None:
        yield Attempt(f"ALTER TABLE {parent} DETACH PARTITION {table}", allowed=False)
        yield Attempt(f"DROP TRIGGER audit_logs_refuse_truncate ON {table}", allowed=False)


def general_attempts(role: str, database: str) -> Iterator[Attempt]:
    """Yield what a role might try that concerns no table of the ledger."""
    for (table, column), readers in SECRETS.items():
        yield Attempt(f"SELECT {column} FROM {table}", role in readers)
    for statement in (
        "CREATE TABLE public.mine (id int)",
        "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION public.convert_to(text, text) RETURNS bytea LANGUAGE sql AS 'SELECT null'",
        "CREATE VIEW public.mine AS SELECT 1 AS one",
        "CREATE SEQUENCE public.mine",
        "CREATE TYPE public.mine AS ENUM ('one')",
        "CREATE OPERATOR public.+ (FUNCTION = int4pl, LEFTARG = int4, RIGHTARG = int4)",
        "CREATE SCHEMA mine",
        "CREATE EVENT TRIGGER mine ON ddl_command_end EXECUTE FUNCTION audit_logs_refuse()",
        "CREATE ROLE mine",
        "CREATE PUBLICATION mine FOR ALL TABLES",
        "SET session_replication_role = replica",
        "SELECT set_config('session_replication_role', 'replica', false)",
        f"ALTER DATABASE {database} SET session_replication_role = replica",
        "ALTER FUNCTION audit_logs_refuse() RENAME TO mine",
        (
            "CREATE OR REPLACE FUNCTION audit_logs_refuse() RETURNS trigger LANGUAGE plpgsql"
            " AS 'BEGIN RETURN NULL; END'"
        ),
        "DROP FUNCTION audit_logs_refuse() CASCADE",
        "COPY (SELECT 1) TO PROGRAM 'cat'",
        "SELECT pg_read_file('/etc/hostname')",
        "SELECT pg_ls_dir('.')",
        "SELECT pg_switch_wal()",
        "SELECT pg_create_restore_point('mine')",
        "SELECT pg_reload_conf()",
        "SELECT lo_import('/etc/hostname')",
        "SELECT rolpassword FROM pg_authid",
    ):
        yield Attempt(statement, allowed=False)
    for other in ROLES:
        if other not in {role, STRANGER}:
            yield Attempt(f"SET ROLE {other}", allowed=False)
            yield Attempt(f"GRANT {other} TO CURRENT_USER", allowed=False)
