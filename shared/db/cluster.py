"""A PostgreSQL cluster, that is a data directory: making one, and telling ours from others."""

import os
import shutil
import subprocess
from pathlib import Path

from shared.db.embedded_host import (
    MAJOR_VERSION,
    EmbeddedPostgresError,
    as_ordinary_user,
    program,
)

USER = "postgres"
MARKER = "release-manager"
INITDB = (
    *("--username", USER, "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8"),
    *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--no-instructions"),
)


def check_cluster(cluster: Path) -> None:
    """Refuse a cluster that is not ours rather than starting it, or stopping its server."""
    if not cluster.exists() or not any(cluster.iterdir()):
        return
    problem = None
    if cluster.stat().st_uid != os.geteuid():
        problem = "belongs to another user"
    elif not (cluster / MARKER).exists():
        problem = "was not made by Release Manager"
    else:
        version = (cluster / "PG_VERSION").read_text().strip()
        if version != str(MAJOR_VERSION):
            problem = f"was made by PostgreSQL {version}, and the embedded one is {MAJOR_VERSION}"
    if problem is not None:
        sentence = f"{cluster} {problem}: set RELEASE_MANAGER_DATA_DIR to another directory."
        raise EmbeddedPostgresError(sentence)


def make_cluster(cluster: Path, *, sync: bool) -> None:
    """Make a cluster unless there is one: beside its place first, then moved there as a whole."""
    if (cluster / MARKER).exists():
        return
    new = cluster.with_name(f"{cluster.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    run_program("initdb", "-D", str(new), *INITDB, *(() if sync else ("--no-sync",)))
    (new / MARKER).write_text("This cluster was made by Release Manager.\n")
    new.rename(cluster)


def make_database(name: str, *connection: str) -> None:
    """Create the database unless it exists; `connection` are psql's options to reach the server."""
    statement = (
        "SELECT format('CREATE DATABASE %I', :'name') WHERE NOT EXISTS"
        " (SELECT FROM pg_database WHERE datname = :'name') \\gexec\n"
    )
    options = ("-U", USER, "-d", "postgres", "--no-psqlrc", "-q", "-v", "ON_ERROR_STOP=1")
    run_program("psql", *connection, *options, "-v", f"name={name}", given=statement)


def run_program(name: str, *words: str, given: str = "") -> None:
    """Run one of PostgreSQL's programs to its end; its complaint becomes the error."""
    done = subprocess.run(
        [*as_ordinary_user(), program(name), *words],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        env=own_environment(),
        start_new_session=True,
    )
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        complaint = next((line for line in lines if "error: " in line), lines[-1])
        sentence = f"PostgreSQL's {name} failed: {complaint.rpartition('error: ')[2]}."
        raise EmbeddedPostgresError(sentence)


def own_environment() -> dict[str, str]:
    """Return our environment without PostgreSQL's variables, which would change its defaults."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return kept | {"LC_ALL": "C"}
