"""Many rows at once, as copies of one that is there: for lists longer than any page."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from shared.setting_values import driver_url

MANY: Final = 1_001


@dataclass(frozen=True)
class Copies:
    """Copies of the newest row of a table that `of` finds; `n` in the changed columns counts them.

    `{ListX}` in `of` is what the request of that list is about, and `newest` the column by which a
    row is newer than others.
    """

    table: str
    of: str = "true"
    changes: Mapping[str, str] = field(default_factory=dict)
    newest: str = "created_at"


def _numbered(*columns: str) -> dict[str, str]:
    return dict.fromkeys(columns, "'many-' || n")


def _made(table: str, column: str, before: str = "many-") -> str:
    return f"(SELECT m.id FROM {table} m WHERE m.{column} = '{before}' || n)"


def _named(table: str, column: str, name: str) -> str:
    return f"(SELECT m.id FROM {table} m WHERE lower(m.{column}) = lower('{name}'))"


# In this order, as later ones refer to earlier ones.
EVERYWHERE: Final = (
    Copies("teams", changes=_numbered("name")),
    Copies("services", changes=_numbered("name")),
    Copies("environments", changes=_numbered("name")),
    Copies("releases", changes={"version": "'0.0.' || n"}),
    Copies("runbooks", changes=_numbered("title")),
    Copies(
        "runbook_versions",
        "runbook_id::text = '{ListRunbookVersions}' AND version > 0",
        {"version": "1000 + n"},
    ),
    Copies("runbook_executions"),
    Copies("users", "kind = 'service'", _numbered("username", "email")),
    Copies("service_accounts", changes=_numbered("name") | {"user_id": _made("users", "username")}),
    Copies("sessions", "user_id = " + _named("users", "username", "admin")),
    Copies(
        "api_tokens",
        "service_account_id = " + _named("service_accounts", "name", "{ListApiTokens}"),
        {"token_hash": "sha256(('many-' || n)::bytea)"},
    ),
    Copies(
        "deployments",
        "kind <> 'rollback'",
        _numbered("status_reason")
        | {"status": "'failed'", "completed_seq": "NULL"}
        | {"environment_id": _made("environments", "name")},
    ),
    # Many services in one place, each with a release of its own.
    Copies(
        "releases",
        "version = '0.0.1'",
        {"service_id": _made("services", "name"), "version": "'1.1.' || n"},
    ),
    Copies(
        "deployments",
        "kind <> 'rollback'",
        {
            "release_id": _made("releases", "version", "1.1."),
            "service_id": _made("services", "name"),
            "environment_id": _named("environments", "name", "dev"),
            "status": "'failed'",
            "completed_seq": "NULL",
        },
    ),
    # What an admin can approve; a release waits in a place only once.
    Copies(
        "deployments",
        "status = 'pending' AND "
        + _named("users", "username", "admin")
        + " <> ALL (requesters) AND environment_id = "
        + _named("environments", "name", "staging"),
        {
            "release_id": _made("releases", "version", "0.0."),
            "service_id": "(SELECT m.service_id FROM releases m WHERE m.version = '0.0.' || n)",
        },
    ),
    Copies("approvals", changes={"status": "'revoked'"}),
    Copies(
        "rollbacks",
        changes={
            "status": "'failed'",
            "rollback_deployment_id": _made("deployments", "status_reason"),
        },
    ),
    Copies(
        "pipeline_stages",
        "deployment_id::text = '{ListPipelineStages}'",
        _numbered("name") | {"stage_order": "1000 + n"},
    ),
    Copies("deployment_metrics", "deployment_id::text = '{ListDeploymentMetrics}'"),
    Copies(
        "stage_attempts",
        "stage_id IN (SELECT s.id FROM pipeline_stages s"
        " WHERE s.deployment_id::text = '{ListStageAttempts}')",
        {"attempt": "1000 + n"},
    ),
    Copies("audit_legal_holds", "released_at IS NULL", _numbered("name")),
    Copies(
        "environment_policies",
        "environment_id = " + _named("environments", "name", "{ListPolicyVersions}"),
        {"policy_version": "1000 + n"},
    ),
    Copies(
        "release_marks",
        "cleared_at IS NULL",
        {"release_id": _made("releases", "version", "0.0.")},
    ),
    Copies("freeze_windows", changes=_numbered("name")),
    Copies("locks", "released_at IS NULL AND service_id IS NOT NULL"),
    Copies("gate_overrides", changes={"deployment_id": _made("deployments", "status_reason")}),
    Copies(
        "webhook_deliveries",
        "webhook_id = " + _named("webhooks", "name", "{ListWebhookDeliveries}"),
        {"part": "1000 + n"},
        newest="leaf_index",
    ),
    Copies("webhooks", changes=_numbered("name")),
    Copies(
        "webhook_progress",
        changes={"webhook_id": _made("webhooks", "name")},
        newest="next_index",
    ),
)


async def multiply(database_url: str, copies: Copies, subjects: Mapping[str, str]) -> None:
    """Insert the copies as the owner of the database; none where no row is found to be copied.

    `subjects` are what the requests of lists are about, by the names of the methods.
    """
    connection = await asyncpg.connect(driver_url(database_url))
    try:
        columns = await connection.fetch(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND table_name = $1 AND is_generated = 'NEVER'",
            copies.table,
        )
        names = [str(row[0]) for row in columns]
        assert copies.changes.keys() <= set(names)
        changes = {"id": "gen_random_uuid()", **copies.changes}
        values = ", ".join(changes.get(name, f"t.{name}") for name in names)
        of = copies.of.format_map(defaultdict(str, subjects))
        await connection.execute(
            f"INSERT INTO {copies.table} ({', '.join(names)}) SELECT {values} FROM"
            f" (SELECT * FROM {copies.table} WHERE {of} ORDER BY {copies.newest} DESC LIMIT 1) t,"
            f" generate_series(1, {MANY}) n"
        )
    finally:
        await connection.close()
