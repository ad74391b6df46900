"""When a refused log-in is told."""

import asyncio

import pytest

from services.catalog.operations.logins import Attempt
from shared.errors import LoginRefused
from shared.identity.hashing import PasswordCheck

COMPARED_FOR = 0.2


def attempt(began: float) -> Attempt:
    check = PasswordCheck(right=False, seconds=COMPARED_FOR)
    return Attempt("somebody", None, "account", "source", compared=True, check=check, began=began)


@pytest.mark.parametrize(("after", "steps"), [(0.201, 3), (0.219, 3), (0.299, 3), (0.301, 4)])
async def test_a_refusal_is_told_at_a_step_whatever_it_took(after: float, steps: int) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time() - after
    with pytest.raises(LoginRefused):
        async with attempt(began).refused_in_step():
            raise LoginRefused
    # The clock of the loop may be late but never early, but for its own resolution.
    assert loop.time() - began >= steps * COMPARED_FOR / 2 - 0.001


async def test_who_is_let_in_waits_for_no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    async def sleep(_seconds: float) -> None:
        raise AssertionError

    # What would be waited is too short to be told from the noise of a machine.
    monkeypatch.setattr(asyncio, "sleep", sleep)
    async with attempt(asyncio.get_running_loop().time()).refused_in_step():
        pass
