"""Passwords: right or wrong to the byte, and a bounded amount of work at any time."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import bcrypt
import pytest

from shared.errors import LoginBusy
from shared.identity import passwords as module
from shared.identity.hashing import NICENESS, compare, hash_password, patience
from shared.identity.passwords import Passwords
from tests.support.polling import eventually
from tests.support.processes import children_of

CHEAP = 4


@contextmanager
def checking(rounds: int, queue: int = 20) -> Iterator[Passwords]:
    passwords = Passwords(rounds, workers=1, queue=queue)
    try:
        yield passwords
    finally:
        passwords.close()


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    with checking(CHEAP) as made:
        yield made


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
    with checking(CHEAP + 1) as passwords:
        check = await passwords.check("secret", hash_password("secret", CHEAP))
    assert check.right
    assert check.rehashed is not None
    assert check.rehashed.startswith(f"$2b${CHEAP + 1:02}$")
    assert bcrypt.checkpw(b"secret", check.rehashed.encode())


async def test_a_wrong_one_is_not(passwords: Passwords) -> None:
    check = await passwords.check("wrong", hash_password("secret", CHEAP + 1))
    assert check.rehashed is None


async def test_who_comes_when_the_queue_is_full_is_refused_at_once() -> None:
    with checking(8, queue=3) as passwords:
        checks = [asyncio.create_task(passwords.check("x", None)) for _ in range(10)]
        done = await asyncio.gather(*checks, return_exceptions=True)
        refused = [outcome for outcome in done if isinstance(outcome, LoginBusy)]
        assert len(refused) == 6
        assert all(error.retry_after is not None for error in refused)
        assert not (await passwords.check("x", None)).right


async def test_a_caller_who_goes_away_frees_its_place_when_the_work_is_done() -> None:
    with checking(CHEAP, queue=0) as passwords:

        async def has_a_place() -> bool:
            try:
                await passwords.check("x", None)
            except LoginBusy:
                return False
            return True

        for _ in range(5):
            gone = asyncio.create_task(passwords.check("x", None))
            await asyncio.sleep(0)
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
            await eventually(has_a_place, 60, 0.005)


def hashing_processes() -> list[int]:
    children = children_of(os.getpid()).items()
    return [process for process, command in children if "shared.identity.hashing" in command]


async def test_hashing_gives_way_to_all_other_work() -> None:
    async def only_what_is_left_over() -> bool:
        with suppress(ProcessLookupError):  # one has ended meanwhile
            children = [child for parent in hashing_processes() for child in children_of(parent)]
            return [os.sched_getscheduler(child) for child in children] == [os.SCHED_IDLE]
        return False

    with checking(14) as passwords:
        seen = asyncio.create_task(eventually(only_what_is_left_over, 60, 0.001))
        while not seen.done():  # a check takes about a second, and nobody may have looked in it
            assert not (await passwords.check("x", None)).right
        await seen
        [process] = hashing_processes()
        assert os.getpriority(os.PRIO_PROCESS, process) == NICENESS
        assert not children_of(process)


@pytest.mark.parametrize(
    "hindrance",
    [
        "hashing.PATIENCE_S = 0",
        "hashing._be_the_child = lambda *_: os._exit(1)",
        "os.fork = refuse",
        # With much patience: nobody stands in for a child that a busy machine keeps waiting.
        """
hashing.PATIENCE_S = 300
hashing._answer = lambda **asked: refuse() if os.getpid() == me else answer(**asked)
""",
    ],
)
def test_a_check_is_made_by_the_child_or_else_by_its_parent(hindrance: str) -> None:
    """A processor that is never free, a child that is killed, no room for a process.

    And the other way round: a parent that cannot check needs not.
    """
    program = f"""
import os
from shared.identity import hashing
me, answer = os.getpid(), hashing._answer
def refuse(): raise BlockingIOError
{hindrance}
hashing.main()
"""
    stored = hash_password("secret", 8)
    known = {"stored": stored, "checksum": "x" * 31, "rounds": 8}
    questions = [{"password": tried, **known} for tried in ("secret", "wrong", "secret")]
    told = subprocess.run(
        (sys.executable, "-c", program),
        input="".join(json.dumps(question) + "\n" for question in questions).encode(),
        capture_output=True,
        check=True,
        timeout=110,
    ).stdout
    assert [json.loads(line)["right"] for line in told.splitlines()] == [True, False, True]


@pytest.mark.parametrize(("rounds", "seconds"), [(4, 2), (12, 2), (13, 4), (16, 32)])
def test_a_child_has_longer_for_what_costs_more(rounds: int, seconds: int) -> None:
    """Otherwise what is dear would be begun in vain each time."""
    assert patience(rounds) == seconds


async def test_a_process_that_dies_is_replaced(passwords: Passwords) -> None:
    stored = hash_password("secret", CHEAP)
    assert (await passwords.check("secret", stored)).right
    [first] = hashing_processes()
    os.kill(first, signal.SIGKILL)
    assert (await passwords.check("secret", stored)).right
    [second] = hashing_processes()
    assert second != first
    passwords.close()
    assert not hashing_processes()


async def test_after_a_process_that_could_not_be_started_the_next_one_is(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever is out of memory loses a process, and cannot start another for a while."""
    assert not (await passwords.check("x", None)).right
    [first] = hashing_processes()
    os.kill(first, signal.SIGKILL)

    def no_memory() -> subprocess.Popen[bytes]:
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(module, "_started", no_memory)
        with pytest.raises(MemoryError):
            await passwords.check("x", None)
    assert not (await passwords.check("x", None)).right


async def test_a_question_that_could_not_be_sent_is_answered_to_nobody_else(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it in a buffer would make the process answer one question late for ever."""
    stored = hash_password("secret", CHEAP)
    assert not (await passwords.check("x", stored)).right
    pipe, flushes = module._pipe, iter([OSError(errno.ENOMEM, "no memory")])  # noqa: SLF001

    class Full:
        """The first flush of what was written fails, and leaves it in the buffer."""

        def __init__(self, real: Any) -> None:
            self._real = real
            self.write, self.readline = real.write, getattr(real, "readline", None)

        def flush(self) -> None:
            for error in flushes:
                raise error
            self._real.flush()

    monkeypatch.setattr(module, "_pipe", lambda real: Full(pipe(real)))
    first, second = [await passwords.check(tried, stored) for tried in ("secret", "wrong")]
    assert first.right
    assert not second.right


def test_unknown_wrong_too_long_and_hashed_at_less_cost_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Counted here; that the times of log-ins tell nothing apart is tested with the product."""
    stored, earlier = hash_password("secret", 8), hash_password("secret", 5)
    kinds = [("wrong", stored), ("wrong", None), ("x" * 100, stored), ("wrong", earlier)]
    real, work = bcrypt.checkpw, 0

    def counted(password: bytes, hashed: bytes) -> bool:
        nonlocal work
        work += 1 << int(hashed.split(b"$")[2])
        return real(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    for password, known in kinds:
        work = 0
        assert not compare(password, known, 8, "x" * 31).right
        assert work == 1 << 8
