"""Years of a catalog, made up in the database itself, with ids that can be told from names.

As many services, releases and users as are promised for, and of the other things more than any
installation has, so that a list that reads all of them is found out.
"""

from hashlib import md5
from typing import Final
from uuid import UUID

from benchmarks.stage import Owner

USERS: Final = 5_000
PROGRAMS: Final = 500
SERVICES: Final = 1_000
RELEASES_OF_A_SERVICE: Final = 50
TEAMS: Final = 500
ENVIRONMENTS: Final = 500
RUNBOOKS: Final = SERVICES * 5
DEPLOYMENTS: Final = 2_000
# Of one user, account and runbook; the others have a few.
MANY: Final = 1_000

# That of one release.
COMMIT: Final = md5(b"commit-77", usedforsecurity=False).hexdigest()

# An id that `id_of` knows too.
_ID = "md5({})::uuid"
_AUTHOR = _ID.format("'user-' || 1 + n % 700")
_AT = "'2026-01-01T00:00:00Z'::timestamptz - n * interval '1 hour'"
_ARCHIVED = "CASE WHEN n % 20 = 7 THEN '2026-01-02T00:00:00Z'::timestamptz END"
_FILL: Final = f"""
-- Neither the look-up of every reference nor triggers: what is made here is consistent.
SET session_replication_role = replica;
SET synchronous_commit = off;

INSERT INTO teams (id, name, description, archived_at, created_at, updated_at)
SELECT {_ID.format("'team-' || n")}, 'team-' || n, 'They do things of kind ' || n % 40,
    {_ARCHIVED}, {_AT}, {_AT}
FROM generate_series(1, {TEAMS}) AS n;

INSERT INTO environments (id, name, description, environment_type, promotion_order, archived_at,
    created_at, updated_at)
SELECT {_ID.format("'place-' || n")}, 'place-' || n, 'A place for things of kind ' || n % 40,
    (ARRAY['dev', 'staging', 'prod'])[1 + n % 3], n % 100, {_ARCHIVED}, {_AT}, {_AT}
FROM generate_series(1, {ENVIRONMENTS}) AS n;

INSERT INTO users (id, team_id, username, email, full_name, role, kind, active, password_hash,
    created_at, updated_at)
SELECT {_ID.format("'user-' || n")}, {_ID.format(f"'team-' || 1 + n % {TEAMS}")}, 'user-' || n,
    'user-' || n || '@past.example.com', 'Somebody called ' || n,
    CASE WHEN n % 100 = 3 THEN 'admin' WHEN n % 20 = 9 THEN 'lead' WHEN n % 5 = 1 THEN 'viewer'
         ELSE 'developer' END,
    CASE WHEN n > {USERS - PROGRAMS} THEN 'service' ELSE 'person' END, n % 25 <> 13,
    CASE WHEN n > {USERS - PROGRAMS} THEN NULL ELSE 'none' END, {_AT}, {_AT}
FROM generate_series(1, {USERS}) AS n;

INSERT INTO service_accounts (id, user_id, owner_id, name, scopes, created_at, updated_at)
SELECT {_ID.format("'program-' || n")}, {_ID.format(f"'user-' || {USERS - PROGRAMS} + n")},
    {_ID.format("'user-' || n % 100")}, 'program-' || n, ARRAY['audit.read'], {_AT}, {_AT}
FROM generate_series(1, {PROGRAMS}) AS n;

INSERT INTO api_tokens (id, service_account_id, description, prefix, token_hash, expires_at,
    created_at, updated_at)
SELECT {_ID.format("'token-' || n")},
    {_ID.format(f"'program-' || CASE WHEN n <= {MANY} THEN 1 ELSE n % {PROGRAMS} + 1 END")},
    'for something', 'rm_' || n, sha256(int8send(n)), now() + interval '1 year', {_AT}, {_AT}
FROM generate_series(1, {MANY * 5}) AS n;

INSERT INTO sessions (id, user_id, created_at, updated_at)
SELECT {_ID.format("'session-' || n")},
    {_ID.format(f"'user-' || CASE WHEN n <= {MANY} THEN 1 ELSE n % {USERS} + 1 END")},
    now() - n * interval '1 second', now()
FROM generate_series(1, {USERS * 4}) AS n;

INSERT INTO services (id, team_id, owner_id, name, description, repository, tier, lifecycle, labels,
    archived_at, created_at, updated_at)
SELECT {_ID.format("'service-' || n")}, {_ID.format("'team-' || 1 + n % 50")},
    {_ID.format("'user-' || 1 + n % 300")}, 'service-' || n,
    'It does thing ' || n % 400 || ' for everybody, and word' || n || ' for some',
    'https://git.example.com/group-' || n % 30 || '/service-' || n, 'tier-' || 1 + n % 4,
    CASE WHEN n % 10 = 1 THEN 'experimental' WHEN n % 10 = 2 THEN 'deprecated'
         ELSE 'production' END,
    jsonb_build_object('lang', 'l' || n % 50), {_ARCHIVED}, {_AT}, {_AT}
FROM generate_series(1, {SERVICES}) AS n;

INSERT INTO service_dependencies (service_id, needs_id, minimum_version)
SELECT {_ID.format("'service-' || n")}, {_ID.format("'service-' || n / 2")}, '1.1.0'
FROM generate_series(2, {SERVICES}) AS n;

INSERT INTO releases (id, service_id, created_by, authors, version, commit_sha, artifact_digest,
    status, irreversible, notes, published_at, archived_at, created_at, updated_at)
SELECT {_ID.format("'release-' || n")}, {_ID.format(f"'service-' || 1 + n % {SERVICES}")},
    author, ARRAY[author], '1.' || 1 + n / {SERVICES} || '.0', md5('commit-' || n), 'sha256:0',
    status, n % 50 = 2, repeat('What has changed, and why. ', 8),
    CASE WHEN status <> 'draft' THEN {_AT} END, {_ARCHIVED}, {_AT}, {_AT}
FROM generate_series(0, {SERVICES * RELEASES_OF_A_SERVICE - 1}) AS n, LATERAL (
    SELECT {_AUTHOR} AS author,
        CASE WHEN n % 60 = 1 THEN 'draft' WHEN n % 60 = 2 THEN 'abandoned'
             WHEN n % 60 = 3 THEN 'rolled_back' WHEN n % 3 = 0 THEN 'promoted'
             ELSE 'published' END AS status
) AS chosen;

INSERT INTO runbooks (id, service_id, environment_id, created_by, title, content, tags, version,
    published_at, archived_at, created_at, updated_at)
SELECT {_ID.format("'runbook-' || n")}, {_ID.format(f"'service-' || 1 + n % {SERVICES}")},
    CASE WHEN n % 3 = 0 THEN {_ID.format("'place-' || 1 + n % 30")} END,
    {_AUTHOR}, 'Thing ' || n || ' is broken',
    repeat('Look at the logs, and then at word' || n || '. ', 50),
    jsonb_build_array('tag' || n % 100), 1, {_AT}, {_ARCHIVED}, {_AT}, {_AT}
FROM generate_series(1, {RUNBOOKS}) AS n;

INSERT INTO runbook_versions (id, runbook_id, version, created_by, title, content, published_at,
    created_at, updated_at)
SELECT {_ID.format("'version-' || n")},
    {_ID.format(f"'runbook-' || CASE WHEN n <= {MANY} THEN 1 ELSE n - {MANY} + 1 END")},
    CASE WHEN n <= {MANY} THEN n ELSE 1 END, {_AUTHOR},
    'Thing is broken', 'Look at the logs.', {_AT}, {_AT}, {_AT}
FROM generate_series(1, {MANY + RUNBOOKS - 1}) AS n;

INSERT INTO deployments (id, release_id, service_id, environment_id, deployed_by, requesters, kind,
    status, artifact_digest, created_at, updated_at)
SELECT {_ID.format("'deployment-' || n")}, {_ID.format("'release-' || n")},
    {_ID.format(f"'service-' || 1 + n % {SERVICES}")}, {_ID.format("'place-1'")},
    {_ID.format("'user-1'")}, ARRAY[{_ID.format("'user-1'")}], 'deploy', 'cancelled', 'sha256:0',
    {_AT}, {_AT}
FROM generate_series(0, {DEPLOYMENTS - 1}) AS n;

INSERT INTO runbook_executions (id, runbook_id, version, deployment_id, outcome, executed_by,
    started_at, finished_at, created_at, updated_at)
SELECT {_ID.format("'execution-' || n")},
    {_ID.format(f"'runbook-' || CASE WHEN n <= {MANY} THEN 1 ELSE n % {RUNBOOKS} + 1 END")}, 1,
    {_ID.format(f"'deployment-' || n % {DEPLOYMENTS}")}, 'succeeded', {_AUTHOR},
    {_AT}, {_AT}, {_AT}, {_AT}
FROM generate_series(1, 20000) AS n;

RESET session_replication_role;
RESET synchronous_commit;
"""


async def fill(owner: Owner) -> None:
    """Fill a catalog that is empty but for who calls."""
    await owner.execute(_FILL, timeout=600)
    await owner.execute("VACUUM ANALYZE", timeout=600)


def id_of(name: str) -> str:
    """Return the id of what was made under a name, such as `runbook-1` or `deployment-7`."""
    return str(UUID(md5(name.encode(), usedforsecurity=False).hexdigest()))
