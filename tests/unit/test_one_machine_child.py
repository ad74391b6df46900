"""A child process: back-off, and the ways it ends."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from services.one_machine_child import (
    LONGEST_BACK_OFF_SECONDS,
    STEADY_SECONDS,
    BackOff,
    Child,
    how_it_ended,
)
from tests.support.polling import eventually

PATIENCE_S = 60


def test_back_off_doubles_up_to_a_limit_and_forgets_after_a_steady_life() -> None:
    back_off = BackOff()
    waits = [back_off.after(1) for _ in range(9)]
    assert waits == [0.5, 1, 2, 4, 8, 16, LONGEST_BACK_OFF_SECONDS, 30, 30]
    assert back_off.after(STEADY_SECONDS) == 0.5
    assert back_off.after(1) == 1


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exit code 0"), (3, "exit code 3"), (-9, "SIGKILL"), (-99, "signal 99")],
)
def test_an_exit_code_is_put_into_words(code: int, words: str) -> None:
    assert words in how_it_ended(code)


def test_one_that_does_not_stop_is_killed_and_said_so(tmp_path: Path) -> None:
    said: list[str] = []
    deaf = tmp_path / "deaf"
    code = f"""
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path({str(deaf)!r}).touch()
time.sleep(600)
"""

    async def is_deaf() -> bool:
        return deaf.exists()

    async def run() -> int | None:
        child = Child("deaf", [sys.executable, "-c", code], os.environ, said.append)
        await child.start()
        await eventually(is_deaf, PATIENCE_S)
        await child.stop(0.2)
        return child.exit_code

    assert asyncio.run(run()) == -9
    assert said == ["deaf did not stop within 0.2 s and is killed"]


def test_stopping_what_has_ended_or_never_started_does_nothing() -> None:
    async def run() -> None:
        child = Child("short", [sys.executable, "-c", ""], os.environ, print)
        await child.stop(1)
        await child.start()

        async def has_ended() -> bool:
            return child.exit_code is not None

        await eventually(has_ended, PATIENCE_S)
        await child.stop(1)
        assert child.exit_code == 0

    asyncio.run(run())
