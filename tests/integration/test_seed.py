"""The sample data: exactly what is promised, obeying the rules, and safe to ask for twice."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import asyncpg
import bcrypt
import pytest

from seed.rows import Connection
from seed.seed_data import PASSWORD, seed
from services.audit.rules import leaf
from services.audit.rules.canonical import canonical
from services.audit.rules.events import address_text, leaf_values, microseconds
from shared.setting_values import driver_url
from tests.support.database import Databases
from tests.support.rows import fingerprints

PROJECT = Path(__file__).resolve().parents[2]
COUNTS = {
    "teams": 3,
    "users": 8,
    "services": 5,
    "environments": 3,
    "releases": 10,
    "deployments": 8,
    "approvals": 5,
    "audit_logs": 20,
    "rollbacks": 2,
    "runbooks": 3,
    "deployment_metrics": 8,
    "pipeline_stages": 15,
}


@pytest.fixture
async def seeded(seeded_database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(driver_url(seeded_database_url))
    yield connection
    await connection.close()


async def counts(connection: Connection) -> Mapping[str, int]:
    # The names are those of COUNTS.
    return {table: await connection.fetchval(f"SELECT count(*) FROM {table}") for table in COUNTS}


async def test_there_is_exactly_what_is_promised(seeded: Connection) -> None:
    assert await counts(seeded) == COUNTS


async def test_users_have_the_promised_names_and_the_promised_password(
    seeded: Connection,
) -> None:
    rows = await seeded.fetch("SELECT username, email, role, password_hash FROM users ORDER BY 1")
    assert [row["username"] for row in rows] == [
        *("admin", "dev1", "dev2", "dev3", "lead1", "lead2", "viewer1", "viewer2")
    ]
    for row in rows:
        assert row["email"] == f"{row['username']}@example.com"
        assert row["role"].startswith(row["username"].rstrip("123").replace("dev", "developer"))
        assert bcrypt.checkpw(PASSWORD.encode(), row["password_hash"].encode())


async def test_every_row_is_of_the_last_30_days_and_of_version_0(seeded: Connection) -> None:
    for table in COUNTS:
        odd = await seeded.fetchval(
            f"SELECT count(*) FROM {table} WHERE created_at > now()"
            # Not by this moment: the seed may be older than an hour.
            " OR created_at < (SELECT max(created_at) FROM audit_logs) - interval '30 days 1 hour'"
            " OR updated_at < created_at"
        )
        assert odd == 0, table
    for table in ("teams", "users", "services", "environments", "releases", "runbooks"):
        assert await seeded.fetchval(f"SELECT max(row_version) FROM {table}") == 0
    assert await seeded.fetchval("SELECT max(row_version) FROM deployments") == 0


HISTORY = """
    SELECT r.version, d.kind, d.status, d.completed_seq FROM deployments d
    JOIN releases r ON r.id = d.release_id JOIN services s ON s.id = d.service_id
    JOIN environments e ON e.id = d.environment_id
    WHERE s.name = $1 AND e.name = $2 ORDER BY d.deployed_at
"""


async def test_payment_was_rolled_back_twice_in_dev(seeded: Connection) -> None:
    assert [tuple(row) for row in await seeded.fetch(HISTORY, "payment", "Dev")] == [
        ("1.0.0", "promote", "completed", 1),
        ("1.1.0", "promote", "rolled_back", 2),
        ("1.0.0", "rollback", "completed", 3),
        ("1.2.0", "promote", "rolled_back", None),
        ("1.0.0", "rollback", "in-progress", None),
    ]
    rows = await seeded.fetch(
        "SELECT b.status, b.reason <> '' AND d.rolled_back_by = b.rollback_deployment_id"
        " AND c.rollback_of = d.id AND c.release_id = b.to_release_id"
        " AND d.release_id = b.from_release_id AND m.id IS NOT NULL"
        " FROM rollbacks b JOIN deployments d ON d.id = b.deployment_id"
        " JOIN deployments c ON c.id = b.rollback_deployment_id"
        " LEFT JOIN release_marks m ON m.release_id = b.from_release_id"
        " AND m.environment_id = d.environment_id ORDER BY b.created_at"
    )
    assert [tuple(row) for row in rows] == [("completed", True), ("in-progress", True)]


async def test_auth_is_on_its_way_to_prod(seeded: Connection) -> None:
    outcomes = [
        tuple((await seeded.fetchrow(HISTORY, "auth", place)) or ())[2]
        for place in ("Dev", "Staging", "Prod")
    ]
    assert outcomes == ["completed", "completed", "pending"]
    rows = await seeded.fetch(
        "SELECT e.name, a.status, count(*) FROM approvals a"
        " JOIN deployments d ON d.id = a.deployment_id"
        " JOIN environments e ON e.id = d.environment_id GROUP BY 1, 2 ORDER BY 1, 2"
    )
    assert [tuple(row) for row in rows] == [
        *(("Prod", "approved", 1), ("Prod", "pending", 2), ("Staging", "approved", 2))
    ]


async def test_nobody_approves_their_own_request_or_in_prod_their_own_release(
    seeded: Connection,
) -> None:
    own = await seeded.fetchval(
        "SELECT count(*) FROM approvals a JOIN deployments d ON d.id = a.deployment_id"
        " JOIN releases r ON r.id = d.release_id JOIN environments e ON e.id = d.environment_id"
        " WHERE a.approver_id = ANY (d.requesters)"
        " OR (e.environment_type = 'prod' AND a.approver_id = ANY (r.authors))"
    )
    assert own == 0


async def test_five_deployments_have_three_stages_each(seeded: Connection) -> None:
    rows = await seeded.fetch(
        "SELECT string_agg(name, ' ' ORDER BY stage_order) FROM pipeline_stages"
        " GROUP BY deployment_id"
    )
    assert [row[0] for row in rows] == 5 * ["build test deploy"]


async def test_prod_has_a_policy_of_its_own(seeded: Connection) -> None:
    rows = await seeded.fetch(
        "SELECT e.name, e.policy_version, p.policy_version FROM environments e"
        " LEFT JOIN environment_policies p ON p.environment_id = e.id ORDER BY promotion_order"
    )
    assert [tuple(row) for row in rows] == [("Dev", 0, None), ("Staging", 0, None), ("Prod", 1, 1)]


async def test_the_audit_entries_are_leaves_like_any_other(seeded: Connection) -> None:
    rows = await seeded.fetch("SELECT * FROM audit_logs ORDER BY leaf_index")
    assert [row["leaf_index"] for row in rows] == list(range(20))
    assert {row["producer"] for row in rows} == {"seed"}
    assert len({row["action"] for row in rows}) >= 6
    assert [row["created_at"] for row in rows] == sorted(row["created_at"] for row in rows)
    for row in rows:
        assert row["aggregate"] is None
        digest = leaf.event_digest(stored_values(row), row["salt"])
        assert digest == row["event_digest"]
        moment = microseconds(row["created_at"])
        assert leaf.leaf_hash(row["leaf_index"], moment, digest) == row["leaf_hash"]


def stored_values(row: asyncpg.Record) -> list[leaf.Value]:
    """Return what a leaf commits to, from a stored row."""
    names = ("event_id", "occurred_at", "user_id", "action", "resource_type", "resource_id")
    more = ("user_agent", "category", "producer", "aggregate", "aggregate_seq")
    return leaf_values(
        **{name: row[name] for name in (*names, *more)},
        details=canonical(json.loads(row["details"])),
        ip_address=address_text(row["ip_address"]),
    )


async def test_the_second_time_changes_nothing(seeded_database_url: str) -> None:
    before = await fingerprints(seeded_database_url, without=())
    assert "nothing was changed" in await seed(seeded_database_url, 4)
    assert await fingerprints(seeded_database_url, without=()) == before


async def test_two_at_the_same_time_fill_it_once(database_url: str) -> None:
    done = await asyncio.gather(*(seed(database_url, 4) for _ in range(3)))
    assert sum(sentence.startswith("Seeded 3 teams, 8 users") for sentence in done) == 1
    connection = await asyncpg.connect(driver_url(database_url))
    assert await counts(connection) == COUNTS
    await connection.close()


@pytest.mark.parametrize("words", [["-m", "seed"], ["seed/seed_data.py"]])
def test_the_command_says_what_it_did_in_one_line(database_url: str, words: list[str]) -> None:
    environment = os.environ | {"DATABASE_URL": database_url, "BCRYPT_ROUNDS": "4"}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 1)
    assert "20 audit logs" in done.stdout


def test_an_unmigrated_database_is_said_to_be_one(databases: Databases) -> None:
    with databases.empty() as url:
        done = subprocess.run(
            [sys.executable, "-m", "seed"],
            cwd=PROJECT,
            env=os.environ | {"DATABASE_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 2
    assert "alembic upgrade head" in done.stderr
