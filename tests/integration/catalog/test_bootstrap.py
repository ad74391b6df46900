"""The accounts of the services are made once, and their tokens renewed when they must be."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from seed.rows import Connection
from services.catalog.operations.bootstrap import NobodyToOwn, bootstrap, token_file
from shared.db.engine import Database
from shared.identity.opaque_tokens import digest_of

PROJECT = Path(__file__).resolve().parents[3]
ALL = ["catalog", "deployment", "trial"]


def modes(directory: Path) -> Mapping[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}


async def test_accounts_tokens_and_entries_are_made_once(
    db: Database, owner: Connection, tmp_path: Path
) -> None:
    assert await bootstrap(db, tmp_path, trial=True) == ALL
    files = {name: token_file(tmp_path, name).read_text() for name in ALL}
    assert await bootstrap(db, tmp_path, trial=True) == []
    assert {name: token_file(tmp_path, name).read_text() for name in ALL} == files
    assert modes(tmp_path) == {f"{name}.token": 0o600 for name in ALL}

    rows = await owner.fetch(
        "SELECT a.name, a.scopes, u.username, u.email, u.kind, u.role, o.username AS owner,"
        " t.token_hash FROM service_accounts a JOIN users u ON u.id = a.user_id"
        " JOIN users o ON o.id = a.owner_id JOIN api_tokens t ON t.service_account_id = a.id"
        " ORDER BY 1"
    )
    assert [row["name"] for row in rows] == ALL
    for row in rows:
        assert row["username"] == row["name"]
        assert row["email"] == f"{row['name']}@service.invalid"
        assert (row["kind"], row["role"], row["owner"]) == ("service", "viewer", "admin")
        assert set(row["scopes"]) == {"audit.write", "on_behalf_of"}
        assert row["token_hash"] == digest_of(files[row["name"]].strip())

    events = await owner.fetch("SELECT split_part(aggregate, ':', 1), aggregate_seq FROM outbox")
    assert sorted(map(tuple, events)) == sorted(
        3 * [("service_account", 1), ("service_account", 2), ("user", 1)]
    )
    texts = await owner.fetchval("SELECT string_agg(event::text, ' ') FROM outbox")
    assert not any(token.strip() in texts for token in files.values())


@pytest.mark.parametrize(
    "change",
    [
        "revoked_at = now()",
        "expires_at = now() + interval '89 days'",
        None,
    ],
)
async def test_a_token_that_will_not_do_is_replaced(
    db: Database, owner: Connection, tmp_path: Path, change: str | None
) -> None:
    await bootstrap(db, tmp_path)
    before = token_file(tmp_path, "catalog").read_text()
    if change is None:
        token_file(tmp_path, "catalog").write_text("rmt_something else")
    else:
        await owner.execute(f"UPDATE api_tokens SET {change} WHERE description LIKE '%catalog%'")
    assert await bootstrap(db, tmp_path) == ["catalog"]
    assert token_file(tmp_path, "catalog").read_text() != before
    assert await owner.fetchval("SELECT count(*) FROM service_accounts") == 2


async def test_the_token_of_another_account_will_not_do(db: Database, tmp_path: Path) -> None:
    await bootstrap(db, tmp_path)
    token_file(tmp_path, "catalog").write_text(token_file(tmp_path, "deployment").read_text())
    assert await bootstrap(db, tmp_path) == ["catalog"]


async def test_without_an_admin_it_says_what_to_do(
    db: Database, owner: Connection, tmp_path: Path
) -> None:
    await owner.execute("UPDATE users SET active = false WHERE role = 'admin'")
    with pytest.raises(NobodyToOwn, match="seed"):
        await bootstrap(db, tmp_path)
    assert modes(tmp_path) == {}


def test_the_command_says_what_it_did_and_fails_with_2(
    seeded_database_url: str, database_url: str, tmp_path: Path
) -> None:
    outcomes = [
        run(seeded_database_url, tmp_path, "--trial"),
        run(seeded_database_url, tmp_path, "--trial"),
        run(database_url, tmp_path / "other"),
    ]
    assert [outcome.returncode for outcome in outcomes] == [0, 0, 2]
    assert [len(outcome.stderr.splitlines()) for outcome in outcomes] == [3, 1, 1]
    assert "python -m seed" in outcomes[2].stderr
    assert "rmt_" not in "".join(outcome.stderr + outcome.stdout for outcome in outcomes)


def run(url: str, directory: Path, *options: str) -> subprocess.CompletedProcess[str]:
    given = {"DATABASE_URL": url, "RELEASE_MANAGER_KEY_DIR": str(directory)}
    return subprocess.run(
        [sys.executable, "-m", "services.catalog", "bootstrap", *options],
        cwd=PROJECT,
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
