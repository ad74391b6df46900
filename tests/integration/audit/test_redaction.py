"""Redaction: fields go for good, everything else stays, and nobody else can do the same."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from services.audit.rules.recheck import recomputed_leaf
from services.audit.rules.redaction import ERASABLE, erased
from services.audit.store import retention
from shared.errors import (
    EntryRetired,
    NotRedactable,
    PositionOutOfRange,
    ResourceNotFound,
    UnderLegalHold,
)
from shared.ids import new_id
from tests.integration.audit.conftest import World
from tests.integration.audit.keeping import (
    LATER,
    MONTHS,
    PAST,
    PER_MONTH,
    Kept,
    hold,
    keeping,
    without,
)


@pytest_asyncio.fixture
async def kept(world: World, tmp_path: Path) -> AsyncIterator[Kept]:
    async with keeping(world, tmp_path) as made:
        yield made


async def test_fields_are_erased_and_an_entry_says_so(kept: Kept) -> None:
    before = await kept.row(5)
    done = await kept.keeping.redacting.redact(5, ["ip_address", "details"], "request 17")
    after = await kept.row(5)
    assert without(("ip_address", "details"), after) == without(("ip_address", "details"), before)
    assert (after["ip_address"], after["text"], after["salt"]) == (None, "{}", None)
    order = done.order
    assert order is not None
    assert (order.action, order.resource_type, order.resource_id) == (
        "redact",
        "audit_log",
        str(before["id"]),
    )
    assert (order.producer, order.category, order.user_id) == (
        "audit",
        "change",
        kept.world.user_id,
    )
    assert order.details == {
        "leaf_index": 5,
        "fields": ["details", "ip_address"],
        "erased": ["details", "ip_address"],
        "reason": "request 17",
    }
    assert order.leaf_index == PAST + LATER
    missing = erased(after["redactions"])
    assert missing is not None
    assert missing.leaf == order.leaf_index
    assert recomputed_leaf(dict(after) | {"details": after["text"]}) == before["leaf_hash"]
    assert await kept.intact() == (1, 0)


async def test_the_rest_can_follow_and_repeating_changes_nothing(kept: Kept) -> None:
    first = await kept.redact(7, "user_agent")
    target = UUID(first.resource_id)
    second = await kept.redact(target, "user_agent", "user_id", "resource_id")
    assert second.details["fields"] == ["user_id", "resource_id"]
    assert second.details["erased"] == ["user_id", "resource_id", "user_agent"]
    size = await kept.owner.fetchval("SELECT next_index FROM audit_log_head")
    assert (await kept.redact(7, "user_id")).id == second.id
    assert await kept.owner.fetchval("SELECT next_index FROM audit_log_head") == size
    await kept.redact(7, *ERASABLE)
    assert await kept.intact() == (1, 0)


async def test_what_is_missing_or_about_the_ledger_is_refused(kept: Kept) -> None:
    redact = kept.keeping.redacting.redact
    with pytest.raises(PositionOutOfRange):
        await redact(10_000, ["details"], "x")
    with pytest.raises(ResourceNotFound):
        await redact(new_id(), ["details"], "x")
    order = await kept.redact(3, "details")
    with pytest.raises(NotRedactable, match="how the ledger itself"):
        await redact(order.id, ["user_agent"], "x")
    await kept.walls_down()
    await kept.owner.execute("UPDATE audit_logs SET action = 'x' WHERE leaf_index = 4")
    with pytest.raises(NotRedactable, match="VerifyLedger"):
        await redact(4, ["details"], "x")


@pytest.mark.parametrize("before", ["entry_at", "redact"])
async def test_an_entry_whose_month_goes_meanwhile_is_retired(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    real = getattr(retention, before)

    async def behind(*given: Any) -> Any:
        """Do a step only after the month was dropped."""
        await kept.keeping.retiring.retire(MONTHS[0], "x")
        return await real(*given)

    monkeypatch.setattr(retention, before, behind)
    with pytest.raises(EntryRetired):
        await kept.keeping.redacting.redact(3, ["details"], "x")
    assert await kept.intact() == (0, PER_MONTH)


async def test_a_hold_hinders_it_until_it_is_released(kept: Kept) -> None:
    holds, redact = kept.keeping.holds, kept.keeping.redacting.redact
    await holds.place(hold(kept.world, resource_id="d-9", details={"list": [True]}), {})
    with pytest.raises(UnderLegalHold, match="case-1"):
        await redact(9, ["details"], "x")
    await redact(10, ["details"], "x")
    await holds.release("CASE-1", "over")
    await redact(9, ["details"], "x")
    assert await kept.intact() == (2, 0)


async def test_many_at_the_same_time_each_erase_their_part(kept: Kept) -> None:
    async def one(field: str) -> None:
        await kept.keeping.redacting.redact(11, [field], field)

    await asyncio.gather(*(one(field) for field in ERASABLE), kept.append(5), one("details"))
    row = await kept.row(11)
    missing = erased(row["redactions"])
    assert missing is not None
    assert set(missing.fields) == set(ERASABLE)
    orders = await kept.owner.fetchval("SELECT count(*) FROM audit_logs WHERE action = 'redact'")
    assert orders == len(ERASABLE)
    assert await kept.intact() == (1, 0)


async def test_a_hold_whose_name_looks_like_an_id_is_released_by_it(kept: Kept) -> None:
    holds, name = kept.keeping.holds, "00000000-0000-7000-8000-000000000001"
    placed = await holds.place(hold(kept.world, name=name), {})
    released = await holds.release(name, "over")
    assert (released.id, released.released_because) == (placed.id, "over")


async def test_a_hold_and_a_redaction_at_the_same_time_leave_one_of_two_orders(kept: Kept) -> None:
    for position in range(20, 30):
        placing = kept.keeping.holds.place(
            hold(kept.world, f"h-{position}", resource_id=f"d-{position}"), {}
        )
        redacting = kept.keeping.redacting.redact(position, ["details"], "x")
        results = await asyncio.gather(placing, redacting, return_exceptions=True)
        placed = await kept.owner.fetchval(
            "SELECT leaf_index FROM audit_logs WHERE resource_type = 'legal_hold'"
            " ORDER BY leaf_index DESC LIMIT 1"
        )
        row = await kept.row(position)
        missing = erased(row["redactions"])
        if missing is None:
            assert isinstance(results[1], UnderLegalHold)
        else:
            assert missing.leaf < placed


async def test_partitions_with_erased_fields_are_vacuumed_soon(kept: Kept) -> None:
    await kept.keeping.redacting.redact(5, ["details"], "x")
    options = await kept.owner.fetchval(
        "SELECT reloptions FROM pg_class WHERE relname = 'audit_logs_y2025m01'"
    )
    assert "autovacuum_vacuum_threshold=0" in options
    assert "vacuum_index_cleanup=on" in options
