"""What exports ask of the ledger: windows of entries, each in the form of the file, as statements.

PostgreSQL writes the file. A CSV is what COPY makes of columns. A line of JSON is one column, which
COPY writes as it is when its quote and delimiter are characters that JSON text never has.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, case, func, literal_column, select
from sqlalchemy.dialects.postgresql import asyncpg

from services.audit.rules.manifest import Form
from services.audit.store.queries import Filter, Leaves, matches
from shared.db.models.audit import AuditLog, AuditRetirement

OCSF_VERSION = "1.5.0"
TIMESTAMP = """'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'"""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
AS_CSV: Mapping[str, Any] = {"format": "csv"}
AS_LINES: Mapping[str, Any] = {"format": "csv", "quote": "\x01", "delimiter": "\x02"}
_DRIVER = asyncpg.dialect()  # type: ignore[no-untyped-call]

# Members in the order of `rules.exported.MEMBERS`.
_NDJSON = f"""
    leaf_index, id, event_id,
    to_char(occurred_at, {TIMESTAMP}) AS occurred_at,
    to_char(created_at, {TIMESTAMP}) AS created_at,
    user_id, action, resource_type,
    CASE WHEN redactions -> 'fields' ? 'resource_id' THEN NULL ELSE resource_id END AS resource_id,
    CASE WHEN redactions -> 'fields' ? 'details' THEN NULL ELSE details END AS details,
    host(ip_address) AS ip_address, user_agent, category, producer, aggregate, aggregate_seq,
    leaf_version, encode(salt, 'hex') AS salt, redactions, encode(leaf_hash, 'hex') AS leaf_hash
"""

_OCSF_FACTS = """
    CASE category WHEN 'change' THEN 3004 ELSE 6003 END AS class_uid,
    CASE WHEN category = 'access' THEN 2 WHEN action = 'create' THEN 1
        WHEN action = 'update' THEN 3 WHEN action = 'delete' THEN 4 ELSE 99 END AS activity_id,
    action ~ '(denied|deny|refused|reused)$' AS failed,
    CASE WHEN user_id IS NULL THEN json_build_object('app_name', producer)
        ELSE json_build_object('user', json_build_object('uid', user_id)) END AS actor,
    CASE WHEN ip_address IS NULL THEN json_build_object('svc_name', producer)
        ELSE json_build_object('ip', host(ip_address)) END AS source,
    CASE WHEN redactions -> 'fields' ? 'resource_id'
        THEN json_build_object('name', 'redacted', 'type', resource_type)
        ELSE json_build_object('uid', resource_id, 'type', resource_type) END AS thing
"""
# Absent members are left out; but not inside of `details`, where a null may mean something.
_OCSF = f"""
    left(json_strip_nulls(json_build_object(
        'class_uid', class_uid,
        'class_name', CASE class_uid WHEN 3004 THEN 'Entity Management' ELSE 'API Activity' END,
        'category_uid', class_uid / 1000,
        'category_name', CASE class_uid WHEN 3004 THEN 'Identity & Access Management'
            ELSE 'Application Activity' END,
        'activity_id', activity_id,
        'activity_name', CASE activity_id WHEN 1 THEN 'Create' WHEN 2 THEN 'Read'
            WHEN 3 THEN 'Update' WHEN 4 THEN 'Delete' ELSE action END,
        'type_uid', class_uid * 100 + activity_id,
        'time', floor(extract(epoch FROM occurred_at) * 1000)::bigint,
        'severity_id', 1,
        'severity', 'Informational',
        'status_id', CASE WHEN failed THEN 2 ELSE 1 END,
        'status', CASE WHEN failed THEN 'Failure' ELSE 'Success' END,
        'metadata', json_build_object(
            'version', '{OCSF_VERSION}',
            'product', json_build_object(
                'name', 'Release Manager', 'vendor_name', 'Release Manager'),
            'uid', id,
            'event_code', action,
            'log_name', 'audit ledger',
            'log_provider', producer,
            'logged_time', floor(extract(epoch FROM created_at) * 1000)::bigint,
            'original_time', to_char(occurred_at, {TIMESTAMP}),
            'sequence', leaf_index),
        'actor', actor,
        'src_endpoint', source,
        'http_request', CASE WHEN user_agent IS NOT NULL
            THEN json_build_object('user_agent', user_agent) END,
        'entity', CASE class_uid WHEN 3004 THEN thing END,
        'api', CASE class_uid WHEN 6003 THEN json_build_object('operation', action) END,
        'resources', CASE class_uid WHEN 6003 THEN json_build_array(thing) END
    ))::text, -1) || ',"unmapped":' || json_build_object(
        'leaf_index', leaf_index, 'leaf_hash', encode(leaf_hash, 'hex'), 'event_id', event_id,
        'category', category, 'aggregate', aggregate, 'aggregate_seq', aggregate_seq,
        'redacted', coalesce(array_to_json(
            ARRAY(SELECT jsonb_object_keys(redactions -> 'fields'))), '[]'),
        'details', details
    ) || '}}'
"""
_LINES = {Form.NDJSON: "row_to_json(line)::text", Form.OCSF: _OCSF}
# The first position of a range ($1 to $2) that was erased from, or dropped, since the ledger had $3
# entries and the months that begin at $4 were gone. Only the ledger itself is the producer `audit`.
CHANGED = """
    SELECT min(position) FROM (
        SELECT (details ->> 'leaf_index')::bigint AS position FROM audit_logs
        WHERE leaf_index >= $3 AND action = 'redact' AND resource_type = 'audit_log'
            AND producer = 'audit' AND category = 'change'
            AND details -> 'leaf_index' >= to_jsonb($1::bigint)
            AND details -> 'leaf_index' < to_jsonb($2::bigint)
        UNION ALL
        SELECT greatest(first_index, $1) FROM audit_retirements
        WHERE dropped_at IS NOT NULL AND first_index < $2 AND end_index > $1
            AND first_index <> ALL ($4::bigint[])
    ) AS changed
"""


def window(wanted: Filter, leaves: Leaves, form: Form) -> tuple[str, list[Any], Mapping[str, Any]]:
    """Return one window of an export, for the driver: text with $n, parameters, options of COPY.

    `details` are the text of jsonb: JSON with a space after each colon and comma.
    """
    statement = (
        select(*_columns(form))
        .select_from(AuditLog)
        .where(*matches(wanted, leaves))
        .order_by(AuditLog.leaf_index)
    )
    compiled = statement.compile(dialect=_DRIVER, compile_kwargs={"render_postcompile": True})
    query = str(compiled)
    if form in _LINES:
        query = f"SELECT {_LINES[form]} FROM ({query}) AS line ORDER BY line.leaf_index"  # noqa: S608
    parameters = [compiled.params[name] for name in compiled.positiontup or ()]
    return query, parameters, AS_LINES if form in _LINES else AS_CSV


def _columns(form: Form) -> list[Any]:
    match form:
        case Form.NDJSON:
            return [literal_column(_NDJSON)]
        case Form.OCSF:
            return [literal_column(f"*, {_OCSF_FACTS}")]
    cell = _spreadsheet_cell if form is Form.SPREADSHEET else _exact_cell
    return [
        AuditLog.id,
        AuditLog.user_id,
        cell(AuditLog.action),
        cell(AuditLog.resource_type),
        cell(AuditLog.resource_id),
        AuditLog.details,
        AuditLog.ip_address,
        cell(AuditLog.user_agent),
        func.to_char(AuditLog.created_at, literal_column(TIMESTAMP)),
    ]


def _exact_cell(column: Any) -> Any:  # noqa: ANN401  (a column of the model)
    return column


def _spreadsheet_cell(column: Any) -> Any:  # noqa: ANN401
    """Return a cell that no spreadsheet runs: formulas get a single quote before them."""
    return case(
        (func.left(column, 1).in_(FORMULA_STARTS), literal_column("''''") + column), else_=column
    )


def dropped(leaves: Leaves) -> Select[int, int, int]:
    """Return the statement for the months in a range whose entries are gone, and who says so."""
    month = AuditRetirement
    return (
        select(month.first_index, month.end_index, month.leaf_index)
        .where(
            month.dropped_at.is_not(None),
            month.first_index < leaves.end,
            month.end_index > leaves.first,
        )
        .order_by(month.first_index)
    )
