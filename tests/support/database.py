"""Databases for tests: one server per process, migrated once, and a fresh clone for each test.

`TEST_DATABASE_URL` names a server to use instead of the embedded one; its user must be allowed to
create databases and roles.
"""

import asyncio
import itertools
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import asyncpg
from sqlalchemy import make_url

from shared.db.embedded import EmbeddedPostgres
from shared.setting_values import driver_url, normal_database_url

PROJECT = Path(__file__).resolve().parents[2]
# Nothing here outlives the run, so nothing needs to survive a loss of power.
UNSAFE_AND_FAST = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "64MB",
}
MOST_SECONDS_TO_LEAVE = 60


class Databases:
    """Templates and clones on one server, given by a URL whose database may be any."""

    def __init__(self, server_url: str) -> None:
        self._server = make_url(normal_database_url(server_url))
        # With TEST_DATABASE_URL several runs and workers share one server, and those in containers
        # their process ids too.
        self._prefix = f"test_{os.getpid()}_{secrets.token_hex(2)}"
        self._numbers = itertools.count(1)
        self._templates: list[str] = []

    @contextmanager
    def fresh(self, *, seeded: bool = False) -> Iterator[str]:
        """Provide the URL of a database with the newest schema, and with the seed if asked for."""
        template = self._seeded if seeded else self._migrated
        name = f"{self._prefix}_{next(self._numbers)}"
        self._copy(template, name)
        # Not as after an outage, when leases stand still: the template was made a while ago.
        self._execute("UPDATE deadline_watch SET looked_at = now()", name)
        try:
            yield self.url(name)
        finally:
            self._drop(name)

    @contextmanager
    def empty(self) -> Iterator[str]:
        """Provide the URL of a database without any table, for tests of migrations."""
        name = f"{self._prefix}_{next(self._numbers)}"
        self._copy("template0", name)
        try:
            yield self.url(name)
        finally:
            self._drop(name)

    def url(self, name: str) -> str:
        """Return the URL of a database of this server."""
        return self._server.set(database=name).render_as_string(hide_password=False)

    def close(self) -> None:
        """Drop the templates."""
        for name in self._templates:
            self._drop(name)
        self._templates.clear()

    @cached_property
    def _migrated(self) -> str:
        return self._template("migrated", "template0", ["alembic", "upgrade", "head"])

    @cached_property
    def _seeded(self) -> str:
        return self._template("seeded", self._migrated, ["seed"])

    def _template(self, purpose: str, origin: str, module: list[str]) -> str:
        name = f"{self._prefix}_{purpose}"
        self._drop(name)  # of an attempt that failed
        self._copy(origin, name)
        self._templates.append(name)
        # Cheap password hashes: what is tested with them is everything but their cost.
        environment = os.environ | {"DATABASE_URL": self.url(name), "BCRYPT_ROUNDS": "4"}
        done = subprocess.run(
            [sys.executable, "-m", *module],
            cwd=PROJECT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            message = f"python -m {' '.join(module)} failed:\n{done.stdout}{done.stderr}"
            raise RuntimeError(message)
        return name

    def _copy(self, template: str, name: str) -> None:
        until = time.monotonic() + MOST_SECONDS_TO_LEAVE
        while True:
            try:
                self._execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY file_copy')
            except asyncpg.ObjectInUseError:
                # PostgreSQL itself waits, but only 5 seconds, for one whose connection is closed
                # and who has not left the template yet.
                if time.monotonic() > until:
                    raise
            else:
                return

    def _drop(self, name: str) -> None:
        self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _execute(self, statement: str, database: str = "") -> None:
        async def run() -> None:
            # Not `template1`, where a second connection would stand in the way of CREATE DATABASE.
            name = database or self._server.database or "postgres"
            connection = await asyncpg.connect(driver_url(self.url(name)))
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

        # A thread of its own, because a fixture may be asked for while an event loop runs.
        with ThreadPoolExecutor(max_workers=1) as thread:
            thread.submit(asyncio.run, run()).result()


@contextmanager
def server() -> Iterator[str]:
    """Provide the URL of a running server: TEST_DATABASE_URL, or an embedded one made for this."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    directory = Path(tempfile.mkdtemp(prefix="release-manager-tests-"))
    try:
        with EmbeddedPostgres(directory, settings=UNSAFE_AND_FAST) as postgres:
            yield postgres.url("postgres")
    finally:
        shutil.rmtree(directory, ignore_errors=True)
