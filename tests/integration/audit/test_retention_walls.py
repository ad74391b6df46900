"""The only update that an entry allows is its redaction, whoever asks and however."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from services.audit.rules.leaf import commitments
from services.audit.rules.recheck import values_of
from services.audit.rules.redaction import redact_details
from services.audit.rules.retirement import retire_details
from services.audit.store import retention
from services.audit.store.appending import append, driver_connection
from shared.ids import new_id
from shared.merkle.tree import Span
from tests.integration.audit.conftest import World
from tests.integration.audit.keeping import MONTHS, PAST, PER_MONTH, Kept, hold, keeping

TARGET, OTHER = 5, 6
ERASING = """
    UPDATE audit_logs AS l SET
        (user_id, resource_id, details, ip_address, user_agent, salt, redactions) =
        (SELECT r.user_id, r.resource_id, r.details, r.ip_address, r.user_agent, r.salt,
            r.redactions FROM audit_redacted(l, $2, $3, $4) AS r){more}
    WHERE leaf_index = $1
"""
OWNED = """
    SELECT format('ALTER %s %s OWNER TO ', kind, name) FROM (
        SELECT 'TABLE' AS kind, oid::regclass::text AS name FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
        UNION ALL SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc
        WHERE pronamespace = 'public'::regnamespace
    ) AS owned
"""
FORBIDDEN = (asyncpg.InsufficientPrivilegeError,)


@dataclass
class Attack:
    """A ledger, and an owner of its tables who tries to do by hand what only the ledger may."""

    kept: Kept
    owner: Any

    async def committed(self, position: int) -> bytes:
        """Return the commitments of an entry that nothing was erased from."""
        row = await self.kept.row(position)
        values = values_of(dict(row) | {"details": row["text"]})
        return b"".join(commitments(values, row["salt"]))

    async def order(self, position: int, fields: Sequence[str]) -> int:
        """Append an entry that orders an erasure, and do nothing more."""
        row = await self.kept.row(position)
        announcer = self.kept.keeping.redacting._announcer  # noqa: SLF001
        details = redact_details(position, fields, None, "x")
        entry = announcer.entry("redact", "audit_log", str(row["id"]), details)
        async with driver_connection(self.kept.world.writer.engine) as driver:
            (placed,) = await append(driver, [entry])
        return placed.leaf_index

    async def change(self, table: str, change: str, committed: bytes) -> None:
        """Change the target, having told its commitments."""
        async with self.owner.transaction():
            await self.owner.execute(
                "SELECT set_config('release_manager.commitments', $1, true)", committed.hex()
            )
            await self.owner.execute(f"UPDATE {table} SET {change} WHERE leaf_index = $1", TARGET)

    async def erase(
        self,
        fields: Sequence[str],
        leaf: int,
        *,
        position: int = TARGET,
        more: str = "",
        told: bytes | None = None,
        given: bytes | None = None,
    ) -> None:
        """Do by hand what the function does, with something more or something else."""
        committed = await self.committed(position) if told is None or given is None else b""
        said = (told if told is not None else committed).hex()
        async with self.owner.transaction():
            await self.owner.execute(
                "SELECT set_config('release_manager.commitments', $1, true)", said
            )
            used = given if given is not None else committed
            await self.owner.execute(ERASING.format(more=more), position, list(fields), used, leaf)


@pytest_asyncio.fixture(params=["superuser", "replica", "owner"])
async def attack(
    world: World, tmp_path: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Attack]:
    async with keeping(world, tmp_path) as kept:
        owner = kept.owner
        if request.param == "replica":
            await owner.execute("SET session_replication_role = replica")
        if request.param == "owner":
            role = f"plain_{new_id().hex}"
            await owner.execute(f"CREATE ROLE {role} NOSUPERUSER")
            await owner.execute(f"GRANT CREATE, USAGE ON SCHEMA public TO {role}")
            for row in await owner.fetch(OWNED):
                await owner.execute(row[0] + role)
            await owner.execute(f"SET ROLE {role}")
        yield Attack(kept, owner)
        await owner.execute("RESET ROLE")
        if request.param == "owner":
            # One table after the other: a statement that locks all meets the integrator's locks.
            for row in await owner.fetch(OWNED):
                await owner.execute(row[0] + "CURRENT_USER")
            await owner.execute(f"DROP OWNED BY {role}")
            await owner.execute(f"DROP ROLE {role}")


async def test_exactly_the_redaction_goes_through(attack: Attack) -> None:
    leaf = await attack.order(TARGET, ["details", "ip_address"])
    await attack.erase(["details", "ip_address"], leaf)
    assert await attack.kept.intact() == (1, 0)


async def test_nothing_else_goes_through(attack: Attack) -> None:
    right = await attack.order(TARGET, ["details", "ip_address"])
    other = await attack.order(OTHER, ["details", "ip_address"])
    both = ["details", "ip_address"]
    wrong = bytes(len(await attack.committed(TARGET)))
    attempts: list[dict[str, Any]] = [
        {"fields": both, "leaf": PAST},
        {"fields": both, "leaf": 10_000},
        {"fields": both, "leaf": other},
        {"fields": ["details"], "leaf": right},
        {"fields": [*both, "user_agent"], "leaf": right},
        {"fields": [], "leaf": right},
        {"fields": ["action"], "leaf": right},
        {"fields": both, "leaf": right, "told": b""},
        {"fields": both, "leaf": right, "told": wrong, "given": wrong},
        {"fields": both, "leaf": right, "given": wrong},
        {"fields": both, "leaf": right, "position": OTHER},
        *(
            {"fields": both, "leaf": right, "more": f", {change}"}
            for change in (
                "action = 'x'",
                "updated_at = now()",
                "leaf_hash = sha256('x')",
                "event_digest = sha256('x')",
                "leaf_index = 99",
                "id = gen_random_uuid()",
                "producer = 'audit'",
                "category = 'access'",
                "created_at = now()",
                "aggregate = 'a:1', aggregate_seq = 1",
                "leaf_version = 2",
            )
        ),
    ]
    before = await attack.kept.row(TARGET)
    for attempt in attempts:
        with pytest.raises(asyncpg.PostgresError) as refused:
            await attack.erase(**attempt)
        assert isinstance(refused.value, FORBIDDEN), (attempt, refused.value)
    assert await attack.kept.row(TARGET) == before


REDACTIONS = '\'{"leaf": 1, "fields": {}, "salts": {}}\''
CHANGES = (
    "details = '{}'",
    "user_id = NULL",
    "salt = NULL",
    "salt = sha256('x')",
    "redactions = NULL",
    "redactions = '[]'",
    "redactions = '{}'",
    'redactions = \'{"fields": 7, "leaf": "x"}\'',
    f"redactions = {REDACTIONS}",
    "redactions = jsonb_set(redactions, '{leaf}', '3')",
    "redactions = jsonb_set(redactions, '{salts,action}', '\"00\"')",
    "redactions = redactions #- '{fields,details}'",
    "redactions = redactions || '{\"more\": 1}'",
    "details = '{\"n\": 1}'",
    "ip_address = '192.0.2.1'",
    "leaf_hash = leaf_hash",
)


@pytest.mark.parametrize("redacted", [False, True])
async def test_no_other_change_goes_through_before_and_after(
    attack: Attack,
    redacted: bool,  # noqa: FBT001  (a parameter)
) -> None:
    whole = await attack.kept.row(TARGET)
    committed = await attack.committed(TARGET)
    if redacted:
        await attack.kept.keeping.redacting.redact(TARGET, ["details", "ip_address"], "x")
    before = await attack.kept.row(TARGET)
    for change in CHANGES:
        for table in ("audit_logs", "audit_logs_y2025m01"):
            with pytest.raises(asyncpg.PostgresError):
                await attack.change(table, change, committed)
    with pytest.raises(FORBIDDEN):  # what a backup still has does not come back
        await attack.owner.execute(
            "UPDATE audit_logs SET details = $2, ip_address = $3, salt = $4, redactions = NULL"
            " WHERE leaf_index = $1",
            *(TARGET, whole["details"], whole["ip_address"], whole["salt"]),
        )
    with pytest.raises(FORBIDDEN):
        await attack.owner.execute(
            "INSERT INTO audit_logs SELECT * FROM audit_logs WHERE leaf_index = $1"
            " ON CONFLICT (id) DO UPDATE SET details = '{}'",
            TARGET,
        )
    for statement in ("DELETE FROM audit_logs WHERE leaf_index = 5", "TRUNCATE audit_logs CASCADE"):
        with pytest.raises(FORBIDDEN):
            await attack.owner.execute(statement)
    assert await attack.kept.row(TARGET) == before


async def test_a_hold_stands_in_the_way_of_the_owner_too(attack: Attack) -> None:
    leaf = await attack.order(TARGET, ["details"])
    await attack.kept.keeping.holds.place(hold(attack.kept.world), {})
    with pytest.raises(FORBIDDEN):
        await attack.erase(["details"], leaf)


async def test_entries_about_the_ledger_are_not_erased(attack: Attack) -> None:
    target = await attack.order(TARGET, ["details"])
    leaf = await attack.order(target, ["user_agent"])
    with pytest.raises(FORBIDDEN):
        await attack.erase(["user_agent"], leaf, position=target)


async def test_holds_and_retirements_change_once_and_in_one_way(attack: Attack) -> None:
    kept = attack.kept
    await kept.keeping.holds.place(hold(kept.world), {})
    await kept.keeping.holds.place(hold(kept.world, "case-2", action="nothing"), {})
    await kept.keeping.holds.release("case-1", "over")
    await kept.keeping.retiring.retire(MONTHS[0], "x")
    await attack.owner.execute("INSERT INTO audit_kept_entries VALUES (1, '{}')")
    for statement in (
        (
            "UPDATE audit_legal_holds SET released_at = NULL, released_by = NULL,"
            " released_because = NULL WHERE name = 'case-1'"
        ),
        "UPDATE audit_legal_holds SET released_because = 'x' WHERE name = 'case-1'",
        "UPDATE audit_legal_holds SET action = 'x' WHERE name = 'case-2'",
        (
            "UPDATE audit_legal_holds SET action = 'x', released_at = now(),"
            " released_because = 'x', released_by = placed_by WHERE name = 'case-2'"
        ),
        "DELETE FROM audit_legal_holds",
        "TRUNCATE audit_legal_holds",
        "UPDATE audit_retirements SET dropped_at = NULL",
        "UPDATE audit_retirements SET dropped_at = now()",
        "UPDATE audit_retirements SET end_index = end_index + 1",
        "DELETE FROM audit_retirements",
        "TRUNCATE audit_retirements",
        "UPDATE audit_kept_entries SET entry = '[]'",
        "DELETE FROM audit_kept_entries",
        "TRUNCATE audit_kept_entries",
    ):
        with pytest.raises(FORBIDDEN):
            await attack.owner.execute(statement)


async def test_the_keeper_cannot_skip_a_step(world: World, tmp_path: Path) -> None:
    """Its role calls five functions, and each looks for itself whether what it does may be."""
    async with keeping(world, tmp_path) as kept:
        await kept.integrator.covering(PAST)
        announcer = kept.keeping.retiring._announcer  # noqa: SLF001
        january, span = MONTHS[0], Span(0, PER_MONTH)
        details = retire_details(span, [], "x")
        right = announcer.entry("retire", "audit_log_month", "2025-01", details)
        async with driver_connection(kept.keeper.engine) as driver:
            assert (await retention.drop_month(driver, january)).outcome == "unknown"
            for entry in (
                announcer.entry("retire", "audit_log_month", "2025-02", details),
                announcer.entry("create", "audit_log_month", "2025-01", details),
                announcer.entry("retire", "audit_log_month", "2025-01", {}),
            ):
                with pytest.raises(asyncpg.InvalidParameterValueError):
                    await retention.retire(driver, entry, january, span)
            for wrong in (Span(0, PER_MONTH - 1), Span(1, PER_MONTH), Span(0, PER_MONTH + 1)):
                assert (await retention.retire(driver, right, january, wrong)).outcome == "changed"
            await kept.integrator.stop()
            assert (await retention.retire(driver, right, january, span)).outcome == "retired"
            assert (await retention.drop_month(driver, january)).outcome == "unsigned"
            row = await kept.row(TARGET)
            wrong_entry = announcer.entry("redact", "audit_log", str(row["id"]), details)
            with pytest.raises(FORBIDDEN):
                await retention.redact(driver, wrong_entry, TARGET, ["details"], b"")
