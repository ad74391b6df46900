"""What a superuser erases, brings back or drops without the ledger saying so is found."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from services.audit.retention import retiring
from services.audit.rules.events import microseconds
from services.audit.rules.leaf import TAGS, commitments, field_salt, leaf_hash
from services.audit.rules.recheck import entry_id, values_of
from tests.integration.audit.conftest import World
from tests.integration.audit.keeping import MONTHS, PAST, PER_MONTH, Kept, keeping

JANUARY, FEBRUARY, _MARCH = MONTHS
BACK = """
    UPDATE audit_logs SET details = $2, ip_address = $3, salt = $4, redactions = $5
    WHERE leaf_index = $1
"""


@pytest_asyncio.fixture
async def kept(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Kept]:
    monkeypatch.setattr(retiring, "PAUSES_S", (0.1,) * 4)
    async with keeping(world, tmp_path) as made:
        await made.walls_down()
        yield made


async def forged(kept: Kept, position: int, fields: list[str], leaf: int) -> None:
    """Blank fields and write the redactions that a genuine redaction would have written."""
    row = await kept.row(position)
    values = values_of(dict(row) | {"details": row["text"]})
    committed = dict(zip(TAGS, commitments(values, row["salt"]), strict=True))
    redactions = {
        "leaf": leaf,
        "fields": {tag: committed[tag].hex() for tag in fields},
        "salts": {tag: field_salt(row["salt"], tag).hex() for tag in TAGS if tag not in fields},
    }
    blanks = {"details": "'{}'", "ip_address": "NULL", "user_agent": "NULL"}
    changes = ", ".join(f"{field} = {blanks[field]}" for field in fields)
    await kept.owner.execute(
        f"UPDATE audit_logs SET {changes}, salt = NULL, redactions = $2 WHERE leaf_index = $1",
        *(position, json.dumps(redactions)),
    )


async def test_blanked_fields_without_an_order_are_found(kept: Kept) -> None:
    other = (await kept.redact(30, "details", "ip_address")).leaf_index
    for position, leaf in enumerate((0, 5, PAST, other, other + 1, 2**40)):
        await forged(kept, position, ["details", "ip_address"], leaf)
        place, problem = await kept.found()
        assert place == position
        assert "no entry at" in problem or "cannot be read" in problem
        await kept.owner.execute("DELETE FROM audit_logs WHERE leaf_index = $1", position)
        row = await restored(kept, position)
        assert row["redactions"] is None
    assert await kept.intact() == (1, 0)


async def restored(kept: Kept, position: int) -> Any:
    """Put an entry back from the copy that the fixture of the test kept."""
    await kept.owner.execute(
        "INSERT INTO audit_logs SELECT * FROM copied WHERE leaf_index = $1", position
    )
    return await kept.row(position)


@pytest_asyncio.fixture(autouse=True)
async def copied(kept: Kept) -> None:
    await kept.owner.execute("CREATE TABLE copied AS SELECT * FROM audit_logs")


async def test_more_or_less_than_what_was_ordered_is_found(kept: Kept) -> None:
    order = await kept.redact(8, "details", "ip_address")
    for fields in (["details"], ["ip_address"], ["details", "ip_address", "user_agent"]):
        await kept.owner.execute("DELETE FROM audit_logs WHERE leaf_index = 8")
        await restored(kept, 8)
        await forged(kept, 8, fields, order.leaf_index)
        assert (await kept.found())[0] == 8
    await kept.owner.execute("DELETE FROM audit_logs WHERE leaf_index = 8")
    await restored(kept, 8)
    place, problem = await kept.found()
    assert (place, problem) == (
        8,
        f"The entry at 8 has fields that were erased, as the entry at {order.leaf_index} says.",
    )
    await forged(kept, 8, ["details", "ip_address"], order.leaf_index)
    assert await kept.intact() == (1, 0)


@pytest.mark.parametrize(
    "change",
    [
        "redactions = NULL",
        "redactions = '[]'",
        "redactions = redactions - 'salts'",
        "redactions = redactions || '{\"more\": 1}'",
        "redactions = jsonb_set(redactions, '{leaf}', '-1')",
        "redactions = jsonb_set(redactions, '{leaf}', '1.5')",
        "redactions = jsonb_set(redactions, '{leaf}', 'true')",
        "redactions = jsonb_set(redactions, '{fields,details}', to_jsonb(repeat('0', 64)))",
        (
            "redactions = jsonb_set(redactions, '{fields,details}', to_jsonb(upper("
            "redactions #>> '{fields,details}')))"
        ),
        "redactions = jsonb_set(redactions, '{salts,action}', to_jsonb(repeat('0', 32)))",
        "redactions = jsonb_set(redactions, '{salts,details}', to_jsonb(repeat('0', 32)))",
        "redactions = redactions #- '{salts,action}'",
        "redactions = redactions #- '{fields,details}'",
        "details = '{\"n\": 1}'",
        "ip_address = '192.0.2.1'",
        "salt = '\\x00'",
        "action = 'x'",
        "user_agent = 'x'",
        "event_digest = sha256('x')",
    ],
)
async def test_what_a_redaction_left_is_held_against_its_leaf(kept: Kept, change: str) -> None:
    await kept.keeping.redacting.redact(8, ["details", "ip_address"], "x")
    assert await kept.intact() == (1, 0)
    await kept.owner.execute(f"UPDATE audit_logs SET {change} WHERE leaf_index = 8")
    assert (await kept.found())[0] == 8


async def test_an_order_that_was_changed_orders_nothing(kept: Kept) -> None:
    order = await kept.redact(8, "details")
    await kept.owner.execute(
        'UPDATE audit_logs SET details = details || \'{"reason": "y"}\' WHERE leaf_index = $1',
        order.leaf_index,
    )
    assert (await kept.found())[0] == 8


async def test_an_order_that_is_only_among_the_kept_entries_orders_nothing(kept: Kept) -> None:
    """Beyond the end of the ledger, no tree says whether a kept entry was ever one."""
    beyond = 2**40
    order = await kept.redact(8, "details")
    created_us = microseconds(order.created_at)
    digest = (await kept.row(order.leaf_index))["event_digest"]
    await kept.owner.execute(
        "INSERT INTO audit_kept_entries SELECT $1::bigint, to_jsonb(l) || jsonb_build_object("
        "'leaf_index', $1::bigint, 'id', $2::text, 'leaf_hash', $3::bytea)"
        " FROM audit_logs AS l WHERE leaf_index = $4",
        *(beyond, str(UUID(int=entry_id(created_us, beyond)))),
        *(leaf_hash(beyond, created_us, digest), order.leaf_index),
    )
    await kept.owner.execute("DELETE FROM audit_logs WHERE leaf_index = 8")
    await restored(kept, 8)
    await forged(kept, 8, ["details"], beyond)
    place, problem = await kept.found()
    assert (place, f"no entry at {beyond} orders that" in problem) == (8, True)


async def drop(kept: Kept, month: str = "2025m01") -> None:
    await kept.owner.execute(f"DROP TABLE audit_logs_y{month}")


async def test_a_month_that_is_gone_without_a_word_is_found(kept: Kept) -> None:
    await kept.integrator.covering(PAST)
    await drop(kept)
    assert await kept.found() == (0, "The entry at 0 is missing.")
    insert = "INSERT INTO audit_retirements VALUES ($1, $2, $3, $4, now(), now())"
    for first, end, leaf in ((0, PER_MONTH, PAST + 1), (0, PER_MONTH, 10_000), (0, PAST, PAST)):
        await kept.owner.execute(insert, JANUARY, first, end, leaf)
        assert await kept.found() == (0, "The entry at 0 is missing.")
        await kept.owner.execute("DELETE FROM audit_retirements")


async def test_an_announcement_is_good_for_its_own_month_only(kept: Kept) -> None:
    done = await kept.keeping.retiring.retire(JANUARY, "x")
    assert done.entry is not None
    await drop(kept, "2025m02")
    assert await kept.found() == (PER_MONTH, f"The entry at {PER_MONTH} is missing.")
    insert = "INSERT INTO audit_retirements VALUES ($1, $2, $3, $4, now(), now())"
    await kept.owner.execute(insert, FEBRUARY, PER_MONTH, 2 * PER_MONTH, done.entry.leaf_index)
    assert (await kept.found())[0] == PER_MONTH
    await kept.owner.execute("DELETE FROM audit_retirements WHERE month = $1", FEBRUARY)
    await kept.owner.execute("UPDATE audit_retirements SET end_index = end_index + $1", PER_MONTH)
    assert (await kept.found())[0] == 0


async def test_part_of_an_announced_month_does_not_go(kept: Kept) -> None:
    lock = "LOCK TABLE audit_logs IN ACCESS SHARE MODE"
    async with kept.owner.transaction():
        await kept.owner.execute(lock)
        with pytest.raises(Exception, match="Somebody else"):
            await kept.keeping.retiring.retire(JANUARY, "x")
    assert await kept.intact() == (0, 0)
    await kept.owner.execute("DELETE FROM audit_logs WHERE leaf_index BETWEEN 3 AND 9")
    assert await kept.found() == (3, "The entry at 3 is missing.")
    await kept.owner.execute("DELETE FROM audit_logs WHERE leaf_index < $1", PER_MONTH)
    assert await kept.intact() == (0, PER_MONTH)  # as was announced, by whomever


async def test_what_the_tree_has_of_a_dropped_month_is_held_against_signatures(kept: Kept) -> None:
    await kept.keeping.retiring.retire(JANUARY, "x")
    await kept.owner.execute("ALTER TABLE merkle_tiles DISABLE TRIGGER USER")
    await kept.owner.execute(
        "UPDATE merkle_tiles SET hashes = set_byte(hashes, 40, 255 - get_byte(hashes, 40))"
        " WHERE level = 0 AND tile = 0"
    )
    assert (await kept.found())[0] <= 1
    await kept.owner.execute("DELETE FROM audit_retirements")
    assert (await kept.found())[0] == 0


async def test_entries_in_a_hole_are_found(kept: Kept) -> None:
    await kept.keeping.retiring.retire(JANUARY, "x")
    await kept.owner.execute("SELECT audit_ensure_partitions($1, 1)", JANUARY)
    await restored(kept, 4)
    assert (await kept.found())[0] == 0
