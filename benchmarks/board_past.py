"""A year of deployments, made up in the database itself, with ids that can be told from names.

Every service has been deployed to every environment a dozen times: completed, failed, undone,
waiting and running, with locks and freeze windows over them.
"""

from typing import Final

from benchmarks.catalog_past import id_of
from benchmarks.stage import Owner

SERVICES: Final = 200
TEAMS: Final = 20
USERS: Final = 20
ENVIRONMENTS: Final = 5
RELEASES_OF_A_SERVICE: Final = 12
DEPLOYMENTS_OF_A_PAIR: Final = 12
LOCKS: Final = 400
WINDOWS: Final = 40
CELLS: Final = SERVICES * ENVIRONMENTS

_ID = "md5({})::uuid"
_SERVICE = _ID.format("'service-' || s")
_PLACE = _ID.format("'place-' || e")
_RELEASE = _ID.format("'release-' || s || '-' || {}")
_DEPLOYMENT = _ID.format("'deployment-' || s || '-' || e || '-' || {}")
_USER = _ID.format(f"'user-' || 1 + {{}} % {USERS}")
# The last of a pair waits in a fifth of the pairs and runs in another; of the others, each sixth
# failed and stayed so, each sixth failed and was undone by the next one, the rest completed.
_STATUS = f"""CASE WHEN k = {DEPLOYMENTS_OF_A_PAIR} AND (s + e) % 5 = 0 THEN 'pending'
    WHEN k = {DEPLOYMENTS_OF_A_PAIR} AND (s + e) % 5 = 1 THEN 'in-progress'
    WHEN k % 6 = 2 THEN 'failed' WHEN k % 6 = 4 THEN 'rolled_back' ELSE 'completed' END"""
_FILL: Final = f"""
-- Neither the look-up of every reference nor triggers: what is made here is consistent.
SET session_replication_role = replica;
SET synchronous_commit = off;

INSERT INTO teams (id, name)
SELECT {_ID.format("'team-' || n")}, 'team-' || n FROM generate_series(1, {TEAMS}) AS n;

INSERT INTO users (id, username, email, role, password_hash)
SELECT {_ID.format("'user-' || n")}, 'user-' || n, 'user-' || n || '@past.example.com',
    'developer', 'none'
FROM generate_series(1, {USERS}) AS n;

INSERT INTO environments (id, name, environment_type, promotion_order)
SELECT {_PLACE}, 'place-' || e, (ARRAY['dev', 'dev', 'staging', 'staging', 'prod'])[e], e
FROM generate_series(1, {ENVIRONMENTS}) AS e;

INSERT INTO services (id, name, team_id, owner_id)
SELECT {_SERVICE}, 'service-' || s, {_ID.format(f"'team-' || 1 + s % {TEAMS}")},
    {_USER.format("s")}
FROM generate_series(1, {SERVICES}) AS s;

INSERT INTO releases (id, service_id, created_by, authors, version, status, commit_sha,
    artifact_digest, published_at, created_at)
SELECT {_RELEASE.format("r")}, {_SERVICE}, {_USER.format("s")}, ARRAY[{_USER.format("s")}],
    '1.' || r || '.0', 'promoted', md5(s || '-' || r), 'sha256:' || md5(s || '-' || r),
    '2026-01-01T00:00:00Z'::timestamptz + r * interval '20 days' + s * interval '1 minute',
    '2026-01-01T00:00:00Z'::timestamptz + r * interval '20 days' + s * interval '1 minute'
FROM generate_series(1, {SERVICES}) AS s, generate_series(1, {RELEASES_OF_A_SERVICE}) AS r;

INSERT INTO deployments (id, release_id, service_id, environment_id, deployed_by, requesters, kind,
    status, artifact_digest, deployed_at, started_at, touched_at, completed_at, completed_seq,
    failure_cause, failure_class, rollback_of, rolled_back_by, row_version, created_at)
SELECT {_DEPLOYMENT.format("k")}, {_RELEASE.format("k")}, {_SERVICE}, {_PLACE},
    {_USER.format("(s + k)")}, ARRAY[{_USER.format("(s + k)")}],
    CASE WHEN k % 6 = 5 THEN 'rollback' WHEN k % 2 = 0 THEN 'promote' ELSE 'deploy' END, status,
    'sha256:' || md5(s || '-' || k), began,
    CASE WHEN status <> 'pending' THEN began + interval '10 minutes' END,
    CASE WHEN k % 6 = 5 THEN began
        WHEN status <> 'pending' THEN began + interval '11 minutes' END,
    CASE WHEN status NOT IN ('pending', 'in-progress') THEN began + interval '30 minutes' END,
    CASE WHEN status = 'completed' THEN k END,
    CASE WHEN status IN ('failed', 'rolled_back') THEN 'stage_failed' END,
    CASE WHEN status IN ('failed', 'rolled_back') THEN 'failed' END,
    CASE WHEN k % 6 = 5 THEN {_DEPLOYMENT.format("(k - 1)")} END,
    CASE WHEN k % 6 = 4 THEN {_DEPLOYMENT.format("(k + 1)")} END, 3, began
FROM (
    SELECT s, e, k, {_STATUS} AS status,
        '2026-01-02T00:00:00Z'::timestamptz + k * interval '20 days' + e * interval '1 day'
            + s * interval '1 minute' AS began
    FROM generate_series(1, {SERVICES}) AS s, generate_series(1, {ENVIRONMENTS}) AS e,
        generate_series(1, {DEPLOYMENTS_OF_A_PAIR}) AS k
) AS made;

INSERT INTO rollbacks (id, deployment_id, initiated_by, from_release_id, to_release_id,
    rollback_deployment_id, status, reason, completed_at, created_at)
SELECT md5('rollback-' || id)::uuid, rollback_of, deployed_by, release_id, release_id, id,
    'completed', 'It was broken', completed_at, deployed_at
FROM deployments WHERE kind = 'rollback';

INSERT INTO approvals (id, deployment_id, approver_id, status, decided_at, approver_role,
    artifact_digest, policy_version, created_at)
SELECT md5('approval-' || id)::uuid, id, deployed_by,
    CASE WHEN status = 'pending' THEN 'pending' ELSE 'approved' END, deployed_at, 'lead',
    artifact_digest, 0, deployed_at
FROM deployments WHERE kind <> 'rollback';

INSERT INTO locks (id, service_id, environment_id, reason, locked_by, created_at, released_at,
    released_by, released_because)
SELECT {_ID.format("'lock-' || n")},
    CASE WHEN n % 2 = 0 THEN {_ID.format(f"'service-' || 1 + n % {SERVICES}")} END,
    CASE WHEN n % 3 = 0 THEN {_ID.format(f"'place-' || 1 + n % {ENVIRONMENTS}")} END,
    'For a migration', {_USER.format("n")},
    '2026-02-01T00:00:00Z'::timestamptz + n * interval '1 hour',
    CASE WHEN n % 8 <> 6 THEN '2026-04-01T00:00:00Z'::timestamptz END,
    CASE WHEN n % 8 <> 6 THEN {_USER.format("n")} END,
    CASE WHEN n % 8 <> 6 THEN 'Done' END
FROM generate_series(1, {LOCKS}) AS n;

INSERT INTO freeze_windows (id, name, kind, reason, time_zone, schedule, environment_types,
    created_at, updated_at)
SELECT {_ID.format("'window-' || n")}, 'window-' || n,
    CASE WHEN n % 10 = 0 THEN 'allow' ELSE 'deny' END, 'Nobody is there', 'Europe/Berlin',
    CASE WHEN n % 3 = 0 THEN jsonb_build_object('recurring', jsonb_build_object(
            'rule', 'FREQ=MONTHLY;BYMONTHDAY=' || 1 + n % 28,
            'first_opens_at', '2026-01-01T09:00', 'open_for_seconds', 86400))
        ELSE jsonb_build_object('weekly', jsonb_build_object(
            'days', jsonb_build_array('friday', 'sunday'), 'opens_at', '16:00',
            'closes_at', '20:00')) END,
    CASE WHEN n % 2 = 0 THEN '{{prod}}'::text[] ELSE '{{}}'::text[] END,
    '2026-01-01T00:00:00Z', '2026-01-01T00:00:00Z'
FROM generate_series(1, {WINDOWS}) AS n;

INSERT INTO freeze_window_subjects (id, freeze_window_id, team_id)
SELECT md5('subject-' || n)::uuid, {_ID.format("'window-' || n")},
    {_ID.format(f"'team-' || 1 + n % {TEAMS}")}
FROM generate_series(1, {WINDOWS}) AS n WHERE n % 4 <> 1;

RESET session_replication_role;
"""


async def fill(owner: Owner) -> None:
    """Make it all; ids are those of `id_of` with `deployment-SERVICE-PLACE-NUMBER` and the like."""
    await owner.execute(_FILL)
    await owner.execute("ANALYZE")


DEPLOYMENT: Final = id_of("deployment-7-3-4")
"""A deployment that was undone, by the next one of its pair."""
