"""Keys of access tokens are added and dropped step by step, and every cut-off step is completed."""

import asyncio
import os
import stat
import subprocess
import sys
import time
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from seed.rows import Connection
from services.catalog.operations import key_changes
from services.catalog.operations.key_changes import CommandRefused, drop, rotate
from shared.db.engine import Database
from shared.identity.keys import FIRST_KID, ensure_keys, load_keys, prepare_key
from tests.support.database import PROJECT

LIFETIME = timedelta(minutes=15)
STEPS = 4


async def said(steps: AsyncGenerator[str, None], most: int | None = None) -> list[str]:
    """Carry out a command, or only its first steps, as when it is killed."""
    sentences = []
    async for sentence in steps:
        sentences.append(sentence)
        if len(sentences) == most:
            break
    await steps.aclose()
    return sentences


async def told(owner: Connection) -> list[tuple[str, int]]:
    rows = await owner.fetch(
        "SELECT event->>'action' AS action, aggregate_seq FROM outbox"
        " WHERE aggregate LIKE 'token_key:%' ORDER BY id"
    )
    return [tuple(row) for row in rows]


def modes_in(directory: Path) -> dict[str, int]:
    """Return the permissions of all files, by their names."""
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


def signs_since(directory: Path, kid: str, moment: datetime) -> None:
    """Make a private key look as if it had signed since then."""
    then = moment.timestamp()
    os.utime(directory / f"access-token-{kid}.pem", (then, then))


async def test_a_public_key_is_there_before_it_signs(
    db: Database, owner: Connection, tmp_path: Path
) -> None:
    ensure_keys(tmp_path)
    steps = rotate(db, tmp_path, wait_s=0.2)
    await anext(steps)
    keys = load_keys(tmp_path)
    assert keys.signing_kid == FIRST_KID
    assert len(keys.verifying) == 2
    assert await told(owner) == []
    async for _ in steps:
        pass
    after = load_keys(tmp_path)
    assert after.signing_kid == max(keys.verifying)
    assert after.verifying.keys() == keys.verifying.keys()
    assert await told(owner) == [("rotate_key", 1)]
    modes = modes_in(tmp_path)
    assert set(modes.values()) == {0o600}
    assert len(modes) == 5


@pytest.mark.parametrize("killed_after", range(1, STEPS))
async def test_a_rotation_that_was_cut_off_is_completed_with_the_same_key(
    db: Database, owner: Connection, tmp_path: Path, killed_after: int
) -> None:
    ensure_keys(tmp_path)
    await said(rotate(db, tmp_path, wait_s=0), killed_after)
    begun = load_keys(tmp_path).verifying.keys()
    assert len(await said(rotate(db, tmp_path, wait_s=0))) == STEPS
    assert load_keys(tmp_path).verifying.keys() == begun
    assert load_keys(tmp_path).signing_kid == max(begun)
    assert await told(owner) == [("rotate_key", 1)]
    assert not [name for name in modes_in(tmp_path) if name.startswith("next-")]


async def test_a_rotation_cut_off_at_its_very_end_only_tidies_up(
    db: Database, owner: Connection, tmp_path: Path
) -> None:
    ensure_keys(tmp_path)
    await said(rotate(db, tmp_path, wait_s=0))
    kid = load_keys(tmp_path).signing_kid
    left = tmp_path / f"next-access-token-{kid}.pem"
    left.write_bytes((tmp_path / f"access-token-{kid}.pem").read_bytes())
    await said(rotate(db, tmp_path, wait_s=0))
    assert not left.exists()
    assert load_keys(tmp_path).signing_kid == kid
    assert await told(owner) == [("rotate_key", 1)]


async def test_a_key_may_be_published_for_copies_first(db: Database, tmp_path: Path) -> None:
    ensure_keys(tmp_path)
    await said(rotate(db, tmp_path, publish_only=True))
    await said(rotate(db, tmp_path, publish_only=True))
    keys = load_keys(tmp_path)
    assert (keys.signing_kid, len(keys.verifying)) == (FIRST_KID, 2)
    assert set(modes_in(tmp_path).values()) == {0o600}
    await said(rotate(db, tmp_path, wait_s=0))
    assert load_keys(tmp_path).signing_kid == max(keys.verifying)


async def test_a_key_is_dropped_when_its_last_token_has_expired(
    db: Database, owner: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The clock of the command stands still: a few seconds decide here.
    now = datetime.now(UTC)
    monkeypatch.setattr(key_changes, "datetime", SimpleNamespace(now=lambda _zone: now))
    ensure_keys(tmp_path)
    await said(rotate(db, tmp_path, wait_s=0))
    kid = load_keys(tmp_path).signing_kid
    assert kid is not None
    for age in (timedelta(), LIFETIME, LIFETIME + timedelta(seconds=30)):
        signs_since(tmp_path, kid, now - age)
        with pytest.raises(CommandRefused, match="--now"):
            await said(drop(db, tmp_path, FIRST_KID, lifetime=LIFETIME))
    assert len(load_keys(tmp_path).verifying) == 2
    signs_since(tmp_path, kid, now - LIFETIME - timedelta(seconds=40))
    await said(drop(db, tmp_path, FIRST_KID, lifetime=LIFETIME))
    assert set(load_keys(tmp_path).verifying) == {kid}
    assert await told(owner) == [("rotate_key", 1), ("drop_key", 2)]
    with pytest.raises(CommandRefused, match="There is no key"):
        await said(drop(db, tmp_path, FIRST_KID, lifetime=LIFETIME))


async def test_a_stolen_key_is_dropped_at_once(
    db: Database, owner: Connection, tmp_path: Path
) -> None:
    ensure_keys(tmp_path)
    await said(rotate(db, tmp_path, wait_s=0))
    steps = drop(db, tmp_path, FIRST_KID, lifetime=LIFETIME, at_once=True)
    await said(steps, 1)  # killed before the files are gone
    assert len(load_keys(tmp_path).verifying) == 2
    await said(drop(db, tmp_path, FIRST_KID, lifetime=LIFETIME, at_once=True))
    assert FIRST_KID not in load_keys(tmp_path).verifying
    assert await told(owner) == [("rotate_key", 1), ("drop_key", 2)]


async def test_what_would_leave_nobody_able_to_sign_is_refused(
    db: Database, owner: Connection, tmp_path: Path
) -> None:
    ensure_keys(tmp_path)
    for kid, why in ((FIRST_KID, "replace it"), ("unknown", "There is no key unknown")):
        with pytest.raises(CommandRefused, match=why):
            await said(drop(db, tmp_path, kid, lifetime=LIFETIME, at_once=True))
    await said(rotate(db, tmp_path, publish_only=True))
    prepared = max(load_keys(tmp_path).verifying)
    with pytest.raises(CommandRefused, match="being added"):
        await said(drop(db, tmp_path, prepared, lifetime=LIFETIME, at_once=True))
    (tmp_path / f"access-token-{FIRST_KID}.pem").unlink()
    with pytest.raises(CommandRefused, match="No private key is here"):
        await said(rotate(db, tmp_path, wait_s=0))
    assert await told(owner) == []


async def test_a_key_of_a_clock_that_was_behind_is_not_used(db: Database, tmp_path: Path) -> None:
    ensure_keys(tmp_path)
    kid = prepare_key(tmp_path)
    for kind in ("pem", "pub.pem"):
        path = tmp_path / f"access-token-{FIRST_KID}.{kind}"
        path.rename(tmp_path / f"access-token-99991231T235959Z-later.{kind}")
    with pytest.raises(CommandRefused, match="clock"):
        await said(rotate(db, tmp_path, wait_s=0))
    assert kid not in load_keys(tmp_path).verifying


async def test_two_commands_at_a_time_are_refused(db: Database, tmp_path: Path) -> None:
    ensure_keys(tmp_path)
    first = rotate(db, tmp_path, wait_s=0)
    await anext(first)
    with pytest.raises(CommandRefused, match="Another command"):
        await said(rotate(db, tmp_path, wait_s=0))
    async for _ in first:
        pass
    assert len(load_keys(tmp_path).verifying) == 2


async def test_the_commands_of_the_command_line(seeded_database_url: str, tmp_path: Path) -> None:
    ensure_keys(tmp_path)

    async def run(*words: str) -> tuple[int, str]:
        return await asyncio.to_thread(_run, seeded_database_url, tmp_path, *words)

    started = time.monotonic()
    code, text = await run("rotate-token-key", "--wait", "1.5")
    assert (code, len(text.splitlines())) == (0, STEPS), text
    assert time.monotonic() - started > 1.5
    assert (await run("drop-token-key", FIRST_KID))[0] == 2
    assert (await run("drop-token-key", FIRST_KID, "--now"))[0] == 0
    code, text = await run("rotate-token-key", "--wait", "31")
    assert (code, "must be 0 to 30" in text) == (2, True)


def _run(url: str, directory: Path, *words: str) -> tuple[int, str]:
    given = {"DATABASE_URL": url, "RELEASE_MANAGER_KEY_DIR": str(directory)}
    done = subprocess.run(
        [sys.executable, "-m", "services.catalog", *words],
        cwd=PROJECT,
        env=os.environ | given,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stderr
