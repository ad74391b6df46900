"""Guessing: slowed down, stopped, recorded, and no way to keep somebody out."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict
from release_manager.audit.v1 import audit_pb2
from release_manager.catalog.v1 import catalog_pb2

from services.catalog import commands
from services.catalog.app import PRODUCER, database
from services.catalog.operations.housekeeping import Housekeeping
from services.catalog.operations.logins import LogIns
from services.catalog.rules import throttling
from services.catalog.store.versions import versions
from shared.errors import LoginRefused
from shared.identity.actor import Call, current_call
from shared.identity.passwords import Passwords
from shared.outbox.delivery import Delivery
from tests.rpc.catalog.conftest import entries
from tests.rpc.catalog.identities import SECOND, THIRD, Identities
from tests.support.database import Databases
from tests.support.platform import Platform, running_platform
from tests.support.polling import eventually

pytestmark = pytest.mark.asyncio(loop_scope="session")
HOME, AWAY = "198.51.100.1", "203.0.113.{}"
HOUR = 3_600


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def platform(databases: Databases) -> AsyncIterator[Platform]:
    """Run the product behind a proxy, so that calls come from the addresses they state.

    What it does every minute only the tests do, lest it comes between two of their steps.
    """
    with databases.fresh(seeded=True) as url, pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.catalog.operations.housekeeping.LOOK_EVERY_S", 3_600.0)
        async with running_platform(url, trusted_proxies="127.0.0.0/8") as running:
            yield running


@pytest.fixture
def identities(platform: Platform) -> Identities:
    return Identities(platform)


@pytest.fixture
def hours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a delay last hours instead of seconds, so that none ends while a test goes on."""
    in_seconds = throttling.delay_after
    monkeypatch.setattr(throttling, "delay_after", lambda failures: HOUR * in_seconds(failures))


async def log_in(
    identities: Identities, name: str, password: str = "wrong words", source: str = HOME
) -> Any:
    where = (("x-forwarded-for", source),)
    return await identities.call("Login", where, username=name, password=password)


async def refused(
    identities: Identities, name: str, password: str = "wrong words", source: str = HOME
) -> str:
    where = (("x-forwarded-for", source),)
    error = await identities.refused("Login", where, username=name, password=password)
    assert isinstance(error, LoginRefused), error
    return f"{error} {error.facts} {error.retry_after}"


async def throttle(owner: Any, user: Any, source: str = "") -> Any:
    return await owner.fetchrow(
        "SELECT * FROM login_throttles WHERE account = $1 AND source = $2",
        f"user:{user.id}",
        source,
    )


async def wait_out(owner: Any, seconds: int = HOUR) -> None:
    """Let everything have happened earlier."""
    await owner.execute(
        "UPDATE login_throttles SET delayed_until = delayed_until - make_interval(secs => $1),"
        " reported_at = reported_at - make_interval(secs => $1), compared_at ="
        " (SELECT coalesce(array_agg(t - make_interval(secs => $1)), '{}')"
        " FROM unnest(compared_at) t)",
        seconds,
    )


async def at_home(identities: Identities) -> Any:
    """Return a person who has logged in from home; all others came through the test's own."""
    user = await identities.person()
    await log_in(identities, user.username, SECOND)
    return user


@pytest.mark.usefixtures("hours")
async def test_after_five_failures_even_the_right_password_has_to_wait(
    identities: Identities, owner: Any
) -> None:
    user = await at_home(identities)
    stranger = AWAY.format(1)
    for _ in range(5):
        await refused(identities, user.username, source=stranger)
    await refused(identities, user.username, SECOND, source=stranger)
    row = await throttle(owner, user)
    assert (row["failures"], row["refused"]) == (5, 1)
    await wait_out(owner, 2 * HOUR)
    await log_in(identities, user.username, SECOND, source=stranger)
    row = await throttle(owner, user)
    assert (row["failures"], row["refused"], row["delayed_until"]) == (0, 0, None)


async def test_of_many_at_once_each_counts_and_few_are_compared(
    identities: Identities, owner: Any
) -> None:
    user = await at_home(identities)
    for some in range(0, 50, 10):
        tried = [
            refused(identities, user.username, source=AWAY.format(number))
            for number in range(some, some + 10)
        ]
        assert len(set(await asyncio.gather(*tried))) == 1
    row = await throttle(owner, user)
    assert row["failures"] + row["refused"] == 50
    assert 5 <= row["failures"] <= 10


async def test_many_right_ones_at_once_all_log_in(identities: Identities) -> None:
    user = await identities.person()
    calls = [log_in(identities, user.username, SECOND, AWAY.format(9)) for _ in range(12)]
    assert len(await asyncio.gather(*calls)) == 12


async def test_strangers_do_not_keep_the_owner_out(
    identities: Identities, platform: Platform, owner: Any
) -> None:
    user = await at_home(identities)
    for number in range(100):
        await wait_out(owner)
        await refused(identities, user.username, source=AWAY.format(number))
    assert (await throttle(owner, user))["locked_at"] is not None
    await wait_out(owner, 10_000_000)
    await refused(identities, user.username, SECOND, AWAY.format(200))
    await log_in(identities, user.username, SECOND)
    await refused(identities, user.username, SECOND, AWAY.format(201))
    await identities.call("ResetPassword", user=user.id, password=THIRD)
    assert await throttle(owner, user) is None
    await log_in(identities, user.username, THIRD, AWAY.format(202))
    locks = [e for e in await entries(platform, "user", user.id) if e.action == "lock"]
    assert [MessageToDict(lock.details)["lock"] for lock in locks] == ["delay", "stop"]
    assert {lock.category for lock in locks} == {audit_pb2.AUDIT_CATEGORY_SECURITY}


async def test_an_operator_lets_in_again_whom_strangers_have_locked_out(
    identities: Identities, platform: Platform, owner: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def unlock(name: str) -> int:
        return await commands.run(platform.settings, commands.parser().parse_args(["unlock", name]))

    user = await at_home(identities)
    await owner.execute("UPDATE login_throttles SET failures = 99")
    await refused(identities, user.username, source=AWAY.format(1))
    assert (await throttle(owner, user))["locked_at"] is not None
    assert await unlock(user.username.upper()) == 0
    await log_in(identities, user.username, SECOND, AWAY.format(2))

    async def recorded() -> Any:
        return [e for e in await entries(platform, "user", user.id) if e.action == "unlock"]

    (entry,) = await eventually(recorded)
    assert (entry.user_id, entry.category) == ("", audit_pb2.AUDIT_CATEGORY_SECURITY)
    assert await unlock("nobody-at-all") == 2
    assert "nobody-at-all" in capsys.readouterr().err


@pytest.mark.usefixtures("hours")
async def test_the_answer_is_the_same_whoever_it_is_and_however_often(
    identities: Identities, owner: Any
) -> None:
    user, gone = await at_home(identities), await at_home(identities)
    await identities.call("DeactivateUser", user=gone.username)
    texts = set()
    for name in (user.username, gone.username, "nobody-at-all"):
        texts |= {await refused(identities, name) for _ in range(8)}
        texts.add(await refused(identities, name, "x" * 100))
    assert len(texts) == 1
    row = await owner.fetchrow(
        "SELECT * FROM login_throttles WHERE account LIKE 'name:%' AND source = ''"
    )
    assert (row["failures"], row["refused"]) == (5, 4)
    assert "nobody-at-all" not in row["account"]


@pytest.mark.usefixtures("hours")
async def test_the_current_password_cannot_be_guessed_either(
    identities: Identities, owner: Any
) -> None:
    user = await identities.person()
    session = await identities.log_in(user.username)
    for _ in range(5):
        wrong = {"current_password": "wrong words", "new_password": THIRD}
        assert isinstance(
            await identities.refused("ChangePassword", session, **wrong), LoginRefused
        )
    right = {"current_password": SECOND, "new_password": THIRD}
    assert isinstance(await identities.refused("ChangePassword", session, **right), LoginRefused)
    await wait_out(owner)
    await identities.call("ChangePassword", session, **right)
    assert await throttle(owner, user) is None


@pytest.mark.usefixtures("hours")
async def test_a_flood_is_recorded_as_a_number(
    identities: Identities, platform: Platform, owner: Any
) -> None:
    user = await at_home(identities)
    await owner.execute("DELETE FROM login_throttles")
    stranger = AWAY.format(77)
    for _ in range(12):
        await refused(identities, user.username, source=stranger)
    row = await throttle(owner, user, stranger)
    assert (row["failures"], row["refused"], row["suppressed"]) == (5, 7, 6)
    assert await reasons(owner, user) == ["wrong password"] * 5 + ["too many failures"]
    await wait_out(owner, 61)
    await refused(identities, user.username, source=stranger)
    assert (await details(owner, user))[-1]["suppressed"] == 6
    assert (await throttle(owner, user, stranger))["suppressed"] == 0
    await refused(identities, user.username, source=stranger)
    await wait_out(owner, 61)
    await housekeeping(platform)
    last = (await details(owner, user))[-1]
    assert (last["suppressed"], last["source"]) == (1, stranger)
    assert (await throttle(owner, user, stranger))["suppressed"] == 0


async def reasons(owner: Any, user: Any) -> list[str]:
    return [one["reason"] for one in await details(owner, user)]


async def details(owner: Any, user: Any) -> list[Any]:
    """Return the details of the refused log-ins of a user."""
    rows = await owner.fetch(
        "SELECT event->'details' FROM outbox WHERE event->>'action' = 'login_refused'"
        " AND event->'details'->>'username' = $1 ORDER BY id",
        user.username,
    )
    return [json.loads(row[0]) for row in rows]


async def housekeeping(platform: Platform) -> None:
    """Do once what the catalog service does every minute."""
    db = database(platform.settings)
    try:
        delivery = Delivery.to_audit(platform.settings, db, PRODUCER, versions)
        await Housekeeping(db, delivery, timedelta(days=30)).look()
    finally:
        await db.close()


async def test_what_is_over_is_forgotten_and_what_counts_is_not(
    identities: Identities, platform: Platform, owner: Any
) -> None:
    user = await at_home(identities)
    await owner.execute("DELETE FROM login_throttles; UPDATE sessions SET created_at = now()")
    for number in range(3):
        await refused(identities, user.username, source=AWAY.format(number))
        await refused(identities, f"nobody-{number}")
    kept = "SELECT count(*) FROM login_throttles WHERE account LIKE $1"
    await housekeeping(platform)
    assert (await owner.fetchval(kept, "name:%"), await owner.fetchval(kept, "user:%")) == (6, 4)
    await age(owner, "login_throttles", "updated_at", "2 hours")
    await housekeeping(platform)
    assert (await owner.fetchval(kept, "name:%"), await owner.fetchval(kept, "user:%")) == (0, 4)
    await age(owner, "login_throttles", "updated_at", "91 days")
    await housekeeping(platform)
    assert await owner.fetchval(kept, "user:%") == 1
    assert (await throttle(owner, user))["failures"] == 3


async def test_sessions_are_deleted_long_after_their_end(
    identities: Identities, platform: Platform, owner: Any
) -> None:
    user = await at_home(identities)
    for _ in range(3):
        await log_in(identities, user.username, SECOND)
    ids = [
        row[0]
        for row in await owner.fetch(
            "SELECT id FROM sessions WHERE user_id = $1 ORDER BY created_at DESC LIMIT 3", user.id
        )
    ]
    newest, second, third = ids
    await owner.execute(
        "UPDATE sessions SET revoked_at = now() - interval '91 days', revoked_because = 'logout'"
        " WHERE id = $1",
        third,
    )
    await owner.execute(
        "UPDATE sessions SET created_at = now() - interval '121 days' WHERE id = $1", second
    )
    await housekeeping(platform)
    left = await owner.fetch("SELECT id FROM sessions WHERE user_id = $1", user.id)
    assert newest in [row[0] for row in left]
    assert not {second, third} & {row[0] for row in left}
    orphans = "SELECT count(*) FROM refresh_tokens WHERE session_id = ANY($1)"
    assert await owner.fetchval(orphans, [second, third]) == 0
    metadata = await platform.person("admin")
    answer = await platform.catalog.ReconcileAudit(
        catalog_pb2.ReconcileAuditRequest(), metadata=metadata
    )
    assert answer.missing == 0


async def age(owner: Any, table: str, column: str, by: str) -> None:
    """Let rows have been changed earlier, which a trigger would prevent."""
    await owner.execute(
        f"ALTER TABLE {table} DISABLE TRIGGER USER;"
        f"UPDATE {table} SET {column} = {column} - interval '{by}';"
        f"ALTER TABLE {table} ENABLE TRIGGER USER"
    )


async def test_replicas_count_together(
    identities: Identities, platform: Platform, owner: Any
) -> None:
    """Several processes on one database compare no more than one would."""
    user = await at_home(identities)
    db = database(platform.settings)
    pools = [Passwords(4, workers=1) for _ in range(3)]
    replicas = [LogIns(db, pool) for pool in pools]

    async def guess(number: int) -> bool:
        current_call.set(Call("Login", "test", ip_address=AWAY.format(number)))
        attempt = await replicas[number % 3].attempt(user.username, "wrong words")
        return attempt.compared

    try:
        compared = await asyncio.gather(*(asyncio.create_task(guess(n)) for n in range(30)))
    finally:
        for pool in pools:
            pool.close()
        await db.close()
    row = await throttle(owner, user)
    assert row["failures"] == sum(compared) <= 10
    assert row["failures"] + row["refused"] == 30


async def test_strangers_get_ten_guesses_in_a_quarter_of_an_hour(
    identities: Identities, owner: Any
) -> None:
    user = await at_home(identities)
    for number in range(14):
        await owner.execute("UPDATE login_throttles SET delayed_until = NULL")
        await refused(identities, user.username, source=AWAY.format(number))
    row = await throttle(owner, user)
    assert (row["failures"], row["refused"], len(row["compared_at"])) == (10, 4, 10)
    # Minutes less than a quarter of an hour, which the log-ins themselves may have taken.
    await wait_out(owner, 10 * 60)
    await refused(identities, user.username, SECOND, AWAY.format(50))
    await wait_out(owner, 6 * 60)
    await log_in(identities, user.username, SECOND, AWAY.format(50))
