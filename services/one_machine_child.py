"""A service as a child process: started, watched, started again with back-off, stopped."""

import asyncio
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence

from shared.db.embedded_host import dying_with_us

FIRST_BACK_OFF_SECONDS = 0.5
LONGEST_BACK_OFF_SECONDS = 30.0
# A child that lived this long is not one that fails at every start.
STEADY_SECONDS = 60.0


class BackOff:
    """How long to wait before the next start: twice as long after each short life."""

    def __init__(self) -> None:
        """Begin with the shortest wait."""
        self._next = FIRST_BACK_OFF_SECONDS

    def after(self, lived_seconds: float) -> float:
        """Return the seconds to wait now that a life of so many seconds has ended."""
        if lived_seconds >= STEADY_SECONDS:
            self._next = FIRST_BACK_OFF_SECONDS
        wait = self._next
        self._next = min(2 * wait, LONGEST_BACK_OFF_SECONDS)
        return wait


class Child:
    """One process that ought to run; `name` is how people know it."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        say: Callable[[str], None],
    ) -> None:
        """Prepare; nothing is started yet. `say` gets a sentence when something happens."""
        self.name = name
        self._command = command
        self._environment = environment
        self._say = say
        self._process: asyncio.subprocess.Process | None = None

    @property
    def exit_code(self) -> int | None:
        """The code with which it ended, negative for a signal, or None while it runs."""
        return None if self._process is None else self._process.returncode

    async def start(self) -> None:
        """Start it in a session of its own, out of reach of the terminal's Ctrl-C."""
        command = [*dying_with_us("TERM"), *self._command]
        self._process = await asyncio.create_subprocess_exec(
            *command,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )

    async def keep_running(self) -> None:
        """Start it again, for ever, whenever it ends; it must have been started."""
        back_off = BackOff()
        while self._process is not None:
            began = time.monotonic()
            code = await self._process.wait()
            wait = back_off.after(time.monotonic() - began)
            self._say(f"{self.name} {how_it_ended(code)}; it starts again in {wait:g} s")
            await asyncio.sleep(wait)
            await self.start()

    async def stop(self, seconds: float) -> None:
        """Ask it to end, and after so many seconds end it with all processes of its session."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            async with asyncio.timeout(seconds):
                await process.wait()
        except TimeoutError:
            self._say(f"{self.name} did not stop within {seconds:g} s and is killed")
            self.kill()
            await process.wait()

    def kill(self) -> None:
        """End it at once, with all processes of its session."""
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)


def how_it_ended(code: int) -> str:
    """Return what an exit code says, as the end of a sentence."""
    if code >= 0:
        return f"stopped with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
