"""Passwords: right or wrong to the byte, and a bounded amount of work at any time."""

import asyncio
import time

import bcrypt
import pytest

from shared.errors import LoginBusy
from shared.identity.passwords import Passwords, hash_password

CHEAP = 4


@pytest.fixture
def passwords() -> Passwords:
    return Passwords(CHEAP, workers=1)


@pytest.mark.parametrize(
    "password", ["x", " leading and trailing ", "p" * 72, "é" * 36, "\N{GRINNING FACE}" * 18]
)
async def test_the_right_password_is_right(passwords: Passwords, password: str) -> None:
    assert (await passwords.check(password, hash_password(password, CHEAP))).right


@pytest.mark.parametrize(
    ("password", "tried"),
    [
        ("password", "Password"),
        ("password", "password "),
        ("é", "e\N{COMBINING ACUTE ACCENT}"),
        ("p" * 72, "p" * 73),
        ("p" * 72, "p" * 100_000),
        ("p" * 72, "p" * 71),
    ],
)
async def test_any_other_is_wrong(passwords: Passwords, password: str, tried: str) -> None:
    assert not (await passwords.check(tried, hash_password(password, CHEAP))).right


async def test_nobody_has_a_password(passwords: Passwords) -> None:
    assert not (await passwords.check("password", None)).right
    assert not (await passwords.check("p" * 73, None)).right


async def test_a_right_password_is_hashed_anew_when_the_cost_has_changed() -> None:
    check = await Passwords(CHEAP + 1, workers=1).check("secret", hash_password("secret", CHEAP))
    assert check.right
    assert check.rehashed is not None
    assert check.rehashed.startswith(f"$2b${CHEAP + 1:02}$")
    assert bcrypt.checkpw(b"secret", check.rehashed.encode())


async def test_a_wrong_one_is_not(passwords: Passwords) -> None:
    check = await passwords.check("wrong", hash_password("secret", CHEAP + 1))
    assert check.rehashed is None


async def test_who_comes_when_the_queue_is_full_is_refused_at_once() -> None:
    passwords = Passwords(8, workers=1, queue=3)
    checks = [asyncio.create_task(passwords.check("x", None)) for _ in range(10)]
    done = await asyncio.gather(*checks, return_exceptions=True)
    refused = [outcome for outcome in done if isinstance(outcome, LoginBusy)]
    assert len(refused) == 6
    assert all(error.retry_after is not None for error in refused)
    assert not (await passwords.check("x", None)).right


async def test_a_caller_who_goes_away_frees_its_place_when_the_work_is_done() -> None:
    passwords = Passwords(CHEAP, workers=1, queue=0)
    for _ in range(5):
        gone = asyncio.create_task(passwords.check("x", None))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            try:
                await passwords.check("x", None)
                break
            except LoginBusy:
                await asyncio.sleep(0.005)
        else:
            pytest.fail("the place was never freed")


async def test_unknown_wrong_and_too_long_cost_the_same() -> None:
    passwords = Passwords(8, workers=1)
    stored = hash_password("secret", 8)

    async def cost(password: str, known: str | None) -> float:
        began = time.process_time()
        await passwords.check(password, known)
        return time.process_time() - began

    kinds = [("wrong", stored), ("wrong", None), ("x" * 100, stored)]
    best = [min([await cost(*kind) for _ in range(9)]) for kind in kinds]
    assert max(best) < 1.5 * min(best)
