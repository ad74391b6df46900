"""The rolling verification: what is due, by whom, and that nothing tampered stays unnoticed."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from services.audit.checking import rolling as module
from services.audit.checking.rolling import MADE_UP, ROUND, ROUNDS_A_DAY, Rolling, due_blocks
from shared.clock import system_clock
from tests.integration.audit.test_verify import Verified, verified
from tests.support.polling import eventually

__all__ = ["verified"]


LOCKED = """
    SELECT count(*) > 0 FROM pg_locks
    WHERE locktype = 'advisory' AND (classid::bigint << 32) + objid::bigint = $1 AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


class Hands:
    """A clock that is moved by hand, beside the one of the database."""

    def __init__(self) -> None:
        self.moment = system_clock()

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def hands() -> Hands:
    return Hands()


def rolling(verified: Verified, hands: Hands, days: int = 1) -> Rolling:
    return Rolling(verified.world.reader, verified.verification, hands, days, held_s=0)


def test_each_block_is_due_once_in_a_period_however_the_ledger_grows() -> None:
    rounds = 7
    for start in range(20):
        seen = [
            block
            for number in range(start, start + rounds)
            for block in due_blocks(number, number, rounds, 10 + number)
        ]
        assert len(seen) == len(set(seen))
        assert set(seen) >= set(range(10 + start))
    assert list(due_blocks(3, 9, rounds, 5)) == [0, 1, 2, 3, 4]
    assert sorted(due_blocks(3, 5, rounds, 14)) == [3, 4, 5, 10, 11, 12]


async def test_what_is_new_is_verified_in_the_next_round(verified: Verified, hands: Hands) -> None:
    roller = rolling(verified, hands)
    await verified.append(20)
    with capture_logs() as logs:
        assert await roller.round()
    assert logs == []
    assert module.VERIFIED._value.get() == 20  # noqa: SLF001
    hands.moment += ROUND
    await verified.append(20)
    await verified.walls_down()
    await verified.owner.execute("UPDATE audit_logs SET action = 'x' WHERE leaf_index = 33")
    with capture_logs() as logs:
        assert await roller.round()
    assert [(entry["event"], entry["first_mismatch"]) for entry in logs] == [
        ("ledger_tampered", 33)
    ]
    assert module.MISMATCHES._value.get() == 1  # noqa: SLF001
    # Told again until it matches again; twice in a round in which it is new as well.
    hands.moment += ROUND
    with capture_logs() as logs:
        assert await roller.round()
    assert {entry["event"] for entry in logs} == {"ledger_tampered"}
    await verified.owner.execute("UPDATE audit_logs SET action = 'deploy' WHERE leaf_index = 33")
    hands.moment += ROUND
    with capture_logs() as logs:
        assert await roller.round()
    assert logs == []
    assert module.MISMATCHES._value.get() == 0  # noqa: SLF001


async def test_what_is_old_is_found_within_the_days(
    verified: Verified, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    await verified.append(100)
    hands.moment += timedelta(days=100)
    roller = rolling(verified, hands, days=2)
    assert await roller.round()
    await verified.walls_down()
    await verified.owner.execute("UPDATE audit_logs SET action = 'x' WHERE leaf_index = 70")
    with capture_logs() as logs:
        for _ in range(2 * ROUNDS_A_DAY):
            hands.moment += ROUND
            assert await roller.round()
            if logs:
                break
    assert logs[0]["first_mismatch"] == 70


async def test_what_was_found_is_not_forgotten_before_it_matches(
    verified: Verified, hands: Hands, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither by a round that fails, nor by one that finds something else in its place."""
    monkeypatch.setattr(module, "BLOCK", 16)
    await verified.append(100)
    hands.moment += timedelta(days=100)
    hands.moment += (3 - rolling(verified, hands)._now()) % (2 * ROUNDS_A_DAY) * ROUND  # noqa: SLF001
    roller = rolling(verified, hands, days=2)
    assert await roller.round()
    await verified.walls_down()
    await verified.owner.execute("UPDATE audit_logs SET action = 'x' WHERE leaf_index = 70")

    async def found() -> list[int]:
        hands.moment += ROUND
        with capture_logs() as logs:
            assert await roller.round()
        return [entry["first_mismatch"] for entry in logs]

    assert await found() == [70]
    await verified.owner.execute("ALTER TABLE merkle_tiles RENAME TO away")
    with pytest.raises(DBAPIError):
        await found()
    await verified.owner.execute("ALTER TABLE away RENAME TO merkle_tiles")
    assert await found() == [70]
    assert module.MISMATCHES._value.get() == 1  # noqa: SLF001
    file = tmp_path / "checkpoints"
    whole = file.read_bytes()
    file.write_bytes(b"nothing that was signed\n\n")
    assert 70 not in await found()
    file.write_bytes(whole)
    assert await found() == [70]
    await verified.owner.execute("UPDATE audit_logs SET action = 'deploy' WHERE leaf_index = 70")
    assert await found() == []
    assert module.MISMATCHES._value.get() == 0  # noqa: SLF001


async def test_one_replica_at_a_time_does_a_round(verified: Verified, hands: Hands) -> None:
    await verified.append(5)
    one, other = rolling(verified, hands), rolling(verified, hands)
    held = Rolling(verified.world.reader, verified.verification, hands, 1, held_s=60)
    working = asyncio.create_task(held.round())
    await eventually(lambda: verified.owner.fetchval(LOCKED, module.LOCK))
    assert not await one.round()
    working.cancel()
    assert await eventually(other.round)
    assert await one.round()


async def test_rounds_that_another_replica_only_began_are_made_up_for(
    verified: Verified, hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BLOCK", 16)
    await verified.append(100)
    rounds, block = 2 * ROUNDS_A_DAY, 4
    hands.moment += timedelta(days=100)
    roller = rolling(verified, hands, days=2)
    hands.moment += (block - 1 - roller._now()) % rounds * ROUND  # noqa: SLF001
    roller = rolling(verified, hands, days=2)
    assert await roller.round()
    await verified.walls_down()
    await verified.owner.execute("UPDATE audit_logs SET action = 'x' WHERE leaf_index = 70")

    async def left_out() -> None:
        hands.moment += ROUND
        await verified.owner.execute("SELECT pg_advisory_lock($1)", module.LOCK)
        assert not await roller.round()
        await verified.owner.execute("SELECT pg_advisory_unlock($1)", module.LOCK)

    async def found() -> list[int]:
        hands.moment += ROUND
        with capture_logs() as logs:
            assert await roller.round()
        return [entry["first_mismatch"] for entry in logs]

    for _ in range(3):
        await left_out()
    assert await found() == [70]
    # But not for longer than a start does, however long the other one was the first.
    roller = rolling(verified, hands, days=2)
    for _ in range(MADE_UP):
        await left_out()
    assert await found() == []


async def test_it_stops_at_once_and_zero_days_switch_it_off(
    verified: Verified, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROUND", timedelta(milliseconds=50))
    ran = rolling(verified, Hands())
    ran._clock = lambda: datetime.now(UTC)  # noqa: SLF001
    ran.start()
    await asyncio.sleep(0.5)
    await ran.stop()
    off = rolling(verified, Hands(), days=0)
    off.start()
    assert off._task is None  # noqa: SLF001
    await off.stop()
