"""The embedded PostgreSQL: starting, stopping, surviving, and refusing what is not its own."""

import asyncio
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from shared.db import embedded_host
from shared.db.cluster import MARKER
from shared.db.embedded import LONGEST_SOCKET_PATH, SOCKET_PREFIX, EmbeddedPostgres
from shared.db.embedded_host import EmbeddedPostgresError
from shared.db.postmaster import Postmaster, is_serving, wait_until
from shared.setting_values import driver_url
from tests.support.database import PROJECT

FAST = {"fsync": "off"}
HOLD = """
import sys, time
from pathlib import Path
from shared.db.embedded import EmbeddedPostgres
postgres = EmbeddedPostgres(Path(sys.argv[1]), settings={"fsync": "off"})
postgres.start()
print(postgres.url(), flush=True)
time.sleep(60)
"""
only_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")


@pytest.fixture
def directory() -> Iterator[Path]:
    """A directory with a short path that does not exist yet."""
    parent = Path(tempfile.mkdtemp(prefix="rm-"))
    yield parent / "data"
    shutil.rmtree(parent)


def ask(url: str, question: str) -> object:
    """Return the single value that a query yields."""

    async def run() -> object:
        connection = await asyncpg.connect(driver_url(url))
        try:
            value: object = await connection.fetchval(question)
        finally:
            await connection.close()
        return value

    return asyncio.run(run())


def postmaster(directory: Path) -> Postmaster:
    """Return the server that runs in the directory."""
    found = Postmaster.read(directory / "postgres")
    assert found is not None
    return found


def run_as(user: int, command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command as an ordinary user."""
    return subprocess.run(
        command,
        user=user,
        group=user,
        extra_groups=[],
        env=env,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def runs_as(user: int, python: str) -> bool:
    """Say whether the user can run this interpreter, and the interpreter this code."""
    code = "import sys; sys.exit(sys.version_info < (3, 11))"
    try:
        return run_as(user, [python, "-c", code], env={}).returncode == 0
    except OSError:
        return False


def wheel_directory() -> str:
    """Return the directory that holds the package with PostgreSQL in it."""
    return str(Path(embedded_host.program("postgres")).parents[3])


def test_data_outlives_a_restart(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST) as postgres:
        url = postgres.url()
        ask(url, "CREATE TABLE kept AS SELECT 42 AS value")
    assert not (directory / "postgres" / "postmaster.pid").exists()
    with EmbeddedPostgres(directory, settings=FAST) as postgres:
        assert postgres.url() == url
        assert ask(url, "SELECT value FROM kept") == 42


def test_it_listens_on_a_private_socket_only(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST) as postgres:
        assert ask(postgres.url(), "SHOW listen_addresses") == ""
        socket_dir = postmaster(directory).socket_dir
        assert socket_dir == directory / "socket"
        for private in (directory, directory / "postgres", socket_dir):
            assert stat.S_IMODE(private.stat().st_mode) == 0o700
            assert private.stat().st_uid == os.geteuid()


def test_a_long_path_moves_the_socket_to_a_private_temporary_directory(directory: Path) -> None:
    deep = directory / ("long" * (LONGEST_SOCKET_PATH // 4)) / "with, a 'quote"
    with EmbeddedPostgres(deep, settings=FAST) as postgres:
        assert ask(postgres.url(), "SELECT current_database()") == "release_manager"
        socket_dir = postmaster(deep).socket_dir
        assert socket_dir.name.startswith(SOCKET_PREFIX)
        assert stat.S_IMODE(socket_dir.stat().st_mode) == 0o700
    assert not socket_dir.exists()


def test_a_crashed_server_starts_again_at_the_same_url(directory: Path) -> None:
    with EmbeddedPostgres(directory) as postgres:
        url = postgres.url()
        ask(url, "CREATE TABLE kept AS SELECT 42 AS value")
        os.kill(postmaster(directory).pid, signal.SIGKILL)
        assert wait_until(lambda: not postgres.running, 5)
        postgres.start()
        assert postgres.url() == url
        assert ask(url, "SELECT value FROM kept") == 42


def test_a_second_owner_is_refused_while_the_first_lives(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST) as postgres:
        with pytest.raises(EmbeddedPostgresError, match=f"in use by process {os.getpid()}"):
            EmbeddedPostgres(directory, settings=FAST).start()
        assert postgres.running
        assert ask(postgres.url(), "SELECT 1") == 1


def test_a_killed_owner_takes_its_server_along_or_leaves_it_to_the_next(directory: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(directory)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        url = owner.stdout.readline().strip()
        before = postmaster(directory).pid
        owner.kill()
    with EmbeddedPostgres(directory, settings=FAST) as postgres:
        assert not is_serving(before, directory / "postgres")
        assert postmaster(directory).pid != before
        assert postgres.url() == url


def test_a_server_left_running_is_ended_first(directory: Path) -> None:
    left = EmbeddedPostgres(directory, settings=FAST)
    left.start()
    before = postmaster(directory).pid
    assert left._lock is not None  # noqa: SLF001  (nothing but a crash leaves this state behind)
    left._lock.close()  # noqa: SLF001  (what remains when the owner is gone and the server is not)
    with EmbeddedPostgres(directory, settings=FAST) as postgres:
        assert not left.running
        assert postmaster(directory).pid != before
        assert ask(postgres.url(), "SELECT 1") == 1


def test_a_stale_file_with_the_id_of_another_process_does_no_harm(directory: Path) -> None:
    with EmbeddedPostgres(directory, settings=FAST):
        lines = (directory / "postgres" / "postmaster.pid").read_text().splitlines()
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        stale = "\n".join([str(bystander.pid), *lines[1:]]) + "\n"
        (directory / "postgres" / "postmaster.pid").write_text(stale)
        with EmbeddedPostgres(directory, settings=FAST) as postgres:
            assert ask(postgres.url(), "SELECT 1") == 1
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_an_initdb_that_was_interrupted_is_done_again(directory: Path) -> None:
    half = directory / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with EmbeddedPostgres(directory, settings=FAST) as postgres:
        assert ask(postgres.url(), "SELECT 1") == 1
    assert not half.exists()


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"photo.jpg": ""}, "was not made by Release Manager"),
        ({"PG_VERSION": "18\n"}, "was not made by Release Manager"),
        ({"PG_VERSION": "16\n", MARKER: ""}, "was made by PostgreSQL 16"),
    ],
)
def test_a_foreign_directory_is_left_alone(
    directory: Path, files: dict[str, str], sentence: str
) -> None:
    cluster = directory / "postgres"
    cluster.mkdir(parents=True)
    for name, content in files.items():
        (cluster / name).write_text(content)
    with pytest.raises(EmbeddedPostgresError, match=sentence):
        EmbeddedPostgres(directory, settings=FAST).start()
    assert {path.name for path in cluster.iterdir()} == set(files)


def test_a_directory_that_cannot_be_made_is_said(directory: Path) -> None:
    directory.write_text("a file")
    with pytest.raises(EmbeddedPostgresError, match="cannot be used: File exists"):
        EmbeddedPostgres(directory, settings=FAST).start()


def test_a_setting_that_postgres_refuses_is_repeated_in_its_words(directory: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match="max_connections"):
        EmbeddedPostgres(directory, settings={"max_connections": "many"}).start()
    with EmbeddedPostgres(directory, settings=FAST) as postgres:
        assert postgres.running


@only_root
def test_root_opens_no_directory_and_creates_no_user(directory: Path) -> None:
    directory.parent.chmod(0o700)
    users = Path("/etc/passwd").read_text()
    with EmbeddedPostgres(directory, settings=FAST) as postgres:
        assert ask(postgres.url(), "SELECT 1") == 1
    assert stat.S_IMODE(directory.parent.stat().st_mode) == 0o700
    assert Path("/etc/passwd").read_text() == users
    assert {path.stat().st_uid for path in directory.rglob("*")} == {0}


@only_root
def test_root_is_told_when_another_users_directory_is_closed_to_it(directory: Path) -> None:
    shutil.chown(directory.parent, 65534)
    with pytest.raises(EmbeddedPostgresError, match="start as that user"):
        EmbeddedPostgres(directory, settings=FAST).start()


@only_root
@pytest.mark.parametrize("user", [65534, 54321], ids=["nobody", "a user without a name"])
def test_an_ordinary_user_needs_nothing(directory: Path, user: int) -> None:
    shutil.chown(directory.parent, user, user)
    # Only the standard library is needed, so any interpreter will do that others may run.
    python = next(
        (path for path in (sys.executable, "/usr/bin/python3") if runs_as(user, path)), None
    )
    if python is None:
        pytest.skip("no interpreter of 3.11 or later that another user may run")
    code = HOLD.replace("time.sleep(60)", "postgres.stop()")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(PROJECT), wheel_directory()])}
    done = run_as(user, [python, "-B", "-c", code, str(directory)], env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("postgresql+asyncpg://postgres@/release_manager?host=")
    assert {path.stat().st_uid for path in directory.rglob("*")} == {user}


@only_root
@pytest.mark.parametrize("present", [True, False])
def test_root_without_user_namespaces_is_told_what_to_do(
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    present: bool,  # noqa: FBT001  (a parameter of the test)
) -> None:
    programs = directory.parent / "bin"
    programs.mkdir()
    if present:
        (programs / "unshare").write_text("#!/bin/sh\nexit 1\n")
        (programs / "unshare").chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))
    embedded_host.as_ordinary_user.cache_clear()
    try:
        with pytest.raises(EmbeddedPostgresError, match="start as an ordinary user"):
            EmbeddedPostgres(directory, settings=FAST).start()
    finally:
        embedded_host.as_ordinary_user.cache_clear()
