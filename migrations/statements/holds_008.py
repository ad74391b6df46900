"""Legal holds, as revision 008 makes them: what they cover, how they are placed and released."""


def held(hold: str, entry: str) -> str:
    """Return the condition that a hold is in force and covers an entry."""
    equal = " AND ".join(
        f"({hold}.{name} IS NULL OR {hold}.{name} = {entry}.{name})"
        for name in ("user_id", "action", "resource_type", "resource_id", "producer", "category")
    )
    return (
        f"{hold}.released_at IS NULL AND {equal}"
        f" AND ({hold}.start_at IS NULL OR {entry}.created_at >= {hold}.start_at)"
        f" AND ({hold}.end_at IS NULL OR {entry}.created_at < {hold}.end_at)"
        f" AND ({hold}.details IS NULL OR {entry}.details @> {hold}.details)"
    )


HOLD_ON = f"""
CREATE FUNCTION audit_hold_on(p_entry audit_logs) RETURNS text LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    RETURN (SELECT h.name FROM audit_legal_holds AS h WHERE {held("h", "p_entry")}
            ORDER BY h.id LIMIT 1);
END $$
"""

# The arrays of `audit_append`, here with the one entry that says what is done.
TYPES = (
    "uuid[], bytea[], bytea[], bytea[], timestamptz[], uuid[], text[], text[], text[], text[],"
    " text[], text[], text[], text[], text[], bigint[]"
)
COUNT = len(TYPES.split(", "))
ENTRY = ", ".join(f"${number}" for number in range(1, COUNT + 1))
APPENDED = f"""SELECT a.o_leaf_index INTO STRICT v_leaf FROM audit_append({ENTRY}) AS a
    WHERE a.o_outcome = 'appended'"""


def said(action: str, resource_type: str, resource_id: str, more: str = "true") -> str:
    """Return the statement that refuses to go on unless the given entry says what is done."""
    return f"""
    IF (cardinality($1) = 1 AND $7[1] = '{action}' AND $8[1] = '{resource_type}'
        AND $9[1] = {resource_id} AND $13[1] = 'change' AND $14[1] = 'audit' AND {more})
       IS NOT TRUE THEN
        RAISE EXCEPTION 'the entry does not say what is to be done'
            USING ERRCODE = 'invalid_parameter_value';
    END IF"""


DEFINER = """LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC'"""

HOLD_COLUMNS = (
    *(("id", "uuid"), ("name", "text"), ("user_id", "uuid"), ("action", "text")),
    *(("resource_type", "text"), ("resource_id", "text"), ("start_at", "timestamptz")),
    *(("end_at", "timestamptz"), ("producer", "text"), ("category", "text")),
    *(("details", "jsonb"), ("reason", "text"), ("placed_by", "uuid")),
)
HOLD_TYPES = ", ".join(kind for _name, kind in HOLD_COLUMNS)
HOLD_NAMES = ", ".join(name for name, _kind in HOLD_COLUMNS)
HOLD_GIVEN = ", ".join(f"${COUNT + number}" for number in range(1, len(HOLD_COLUMNS) + 1))

PLACE_HOLD = f"""
CREATE FUNCTION audit_place_hold({TYPES}, {HOLD_TYPES}, OUT o_outcome text, OUT o_id uuid)
{DEFINER} AS $$
DECLARE
    v_leaf bigint;
BEGIN
    PERFORM FROM audit_log_head FOR UPDATE;
    SELECT h.id INTO o_id FROM audit_legal_holds AS h
    WHERE lower(h.name) = lower(${COUNT + 2});
    IF FOUND THEN
        o_outcome := 'known';
        RETURN;
    END IF;
    {said("create", "legal_hold", f"${COUNT + 1}::text")};
    {APPENDED};
    INSERT INTO audit_legal_holds ({HOLD_NAMES}) VALUES ({HOLD_GIVEN});
    o_outcome := 'placed';
    o_id := ${COUNT + 1};
END $$
"""

RELEASE_HOLD = f"""
CREATE FUNCTION audit_release_hold({TYPES}, uuid, uuid, text, OUT o_outcome text)
{DEFINER} AS $$
DECLARE
    v_leaf bigint;
BEGIN
    PERFORM FROM audit_log_head FOR UPDATE;
    PERFORM FROM audit_legal_holds AS h WHERE h.id = ${COUNT + 1} AND h.released_at IS NULL;
    IF NOT FOUND THEN
        o_outcome := 'known';
        RETURN;
    END IF;
    {said("release", "legal_hold", f"${COUNT + 1}::text")};
    {APPENDED};
    UPDATE audit_legal_holds SET released_at = clock_timestamp(), released_by = ${COUNT + 2},
        released_because = ${COUNT + 3}
    WHERE id = ${COUNT + 1};
    o_outcome := 'released';
END $$
"""
