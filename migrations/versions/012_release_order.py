r"""Versions in their order: SemVer 2.0 precedence, and numbers as numbers in any other version.

A key is text that sorts byte by byte (collation "C") as versions are to be sorted:

    0 runs                   a free version: runs of digits and of anything else, in turn
    1 { c number } a ids     a numbered version before its release: 1.4.0-rc.1
    1 { c number } b         a numbered version: 1.4.0, v2, 2026.11.3

A number is its length in three digits and then itself, without zeros before it; zeros at the end
of the numbers do not count, so 1.4 and 1.4.0 are neighbours. Identifiers sort as SemVer has it:
numbers before words, fewer before more. Build metadata does not count. The version itself, after
a space, breaks ties.

Revision ID: 012
Revises: 011
"""

from alembic import op

revision = "012"
down_revision = "011"
branch_labels = None
depends_on = None

NUMBER_KEY = """
CREATE FUNCTION number_key(digits text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT pg_catalog.lpad(pg_catalog.length(pg_catalog.ltrim(digits, '0'))::text, 3, '0')
        || pg_catalog.ltrim(digits, '0')
$$
"""

VERSION_KEY = r"""
CREATE FUNCTION version_key(version text) RETURNS text
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE SET search_path = pg_catalog AS $$
DECLARE
    parts text[] := regexp_match(
        version, '^[vV]?([0-9]+(?:\.[0-9]+)*)(?:-([0-9A-Za-z.-]+))?(?:\+.*)?$');
    piece text;
    made text;
BEGIN
    IF parts IS NULL THEN
        made := '0';
        FOR piece IN
            SELECT run[1] FROM regexp_matches(version, '([0-9]+|[^0-9]+)', 'g') AS run
        LOOP
            made := made || CASE WHEN piece ~ '^[0-9]'
                THEN '1' || public.number_key(piece) ELSE '2' || piece || ' ' END;
        END LOOP;
        RETURN made || '0 ' || version;
    END IF;
    made := '1';
    FOREACH piece IN ARRAY
        string_to_array(regexp_replace(parts[1], '(\.0+)+$', ''), '.')
    LOOP
        made := made || 'c' || public.number_key(piece);
    END LOOP;
    IF parts[2] IS NULL THEN
        RETURN made || 'b ' || version;
    END IF;
    made := made || 'a';
    FOREACH piece IN ARRAY string_to_array(parts[2], '.') LOOP
        made := made || CASE WHEN piece ~ '^[0-9]+$'
            THEN '1' || public.number_key(piece) ELSE '2' || piece || ' ' END;
    END LOOP;
    RETURN made || '0 ' || version;
END $$
"""

UPGRADE = (
    NUMBER_KEY,
    VERSION_KEY,
    *(
        f"{right} {who}"
        for function in ("number_key(text)", "version_key(text)")
        for right, who in (
            (f"REVOKE ALL ON FUNCTION {function}", "FROM PUBLIC"),
            (f"GRANT EXECUTE ON FUNCTION {function}", "TO rm_catalog, rm_deployment"),
        )
    ),
    """
    ALTER TABLE releases ADD COLUMN version_key text COLLATE "C" NOT NULL
        GENERATED ALWAYS AS (version_key(version)) STORED
    """,
    "CREATE INDEX ix_releases_service_id_version_key ON releases (service_id, version_key)",
    "CREATE INDEX ix_releases_version_key ON releases (version_key)",
    "CREATE INDEX ix_releases_updated_at ON releases (updated_at)",
    """
    CREATE INDEX ix_releases_published_at
        ON releases (coalesce(published_at, '1970-01-01 00:00:00+00'::timestamptz))
    """,
    "CREATE INDEX ix_releases_commit_sha ON releases (lower(commit_sha))",
)
DOWNGRADE = (
    "DROP INDEX ix_releases_updated_at, ix_releases_published_at, ix_releases_commit_sha",
    "ALTER TABLE releases DROP COLUMN version_key",
    "DROP FUNCTION version_key(text)",
    "DROP FUNCTION number_key(text)",
)


def upgrade() -> None:
    """Give every release the key that its version sorts by."""
    for statement in UPGRADE:
        op.execute(statement)


def downgrade() -> None:
    """Drop the keys; versions themselves are as they were."""
    for statement in DOWNGRADE:
        op.execute(statement)
