"""The README's walkthrough and the manuals' examples, run as printed, on `python -m services`."""

import csv
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.support.grpcurl import install
from tests.support.machine import Machine, own_environment

ROOT = Path(__file__).parents[2]
HEADER = "ID,User ID,Action,Resource Type,Resource ID,Details,IP Address,User Agent,Created At"
VERSIONS = """
    SELECT sum(row_version) FROM (
        SELECT row_version FROM teams UNION ALL SELECT row_version FROM users
        UNION ALL SELECT row_version FROM services UNION ALL SELECT row_version FROM environments
        UNION ALL SELECT row_version FROM releases UNION ALL SELECT row_version FROM runbooks
        UNION ALL SELECT row_version FROM sessions
        UNION ALL SELECT row_version FROM service_accounts
        UNION ALL SELECT row_version FROM deployments
    ) AS aggregates
"""
pytestmark = pytest.mark.timeout(300)


def commands(page: str, heading: str) -> list[str]:
    """Return the blocks of commands of a section, in their order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"```sh\n(.*?)```", section, flags=re.DOTALL)


@pytest.fixture
def machine() -> Iterator[tuple[Machine, dict[str, str]]]:
    """Bring everything up, freshly seeded."""
    with own_environment() as environment:
        environment["BCRYPT_ROUNDS"] = "4"
        with Machine(environment) as running:
            running.wait_for("\nready\n")
            yield running, environment


def run_as_printed(blocks: list[str], environment: dict[str, str], directory: Path) -> str:
    """Run commands where the data and the programs are found as in the project's directory."""
    install(directory)
    (directory / ".data").symlink_to(environment["RELEASE_MANAGER_DATA_DIR"])
    (directory / ".venv").symlink_to(sys.prefix)
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        cwd=directory,
        env={
            **environment,
            "PATH": f"{directory}:{os.environ['PATH']}",
            **{name: environment[f"{name}_ADDRESS"] for name in ("AUDIT", "CATALOG", "DEPLOYMENT")},
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def test_the_tour_of_the_ledger_works_as_printed(
    machine: tuple[Machine, dict[str, str]], tmp_path: Path
) -> None:
    """Everything is proved, before and after an erasure and a rotation of the key."""
    shorthands = commands("README.md", "A release from end to end")[0]
    said = run_as_printed(
        [shorthands, *commands("docs/audit-ledger.md", "A tour")], machine[1], tmp_path
    )

    verdicts = [line for line in said.splitlines() if line.startswith("Genuine: ")]
    assert len(verdicts) == 4
    assert verdicts[2].endswith("Erased from it were: ip_address.")
    assert "LEDGER_VERDICT_INTACT" in said
    assert len((tmp_path / "ledger.pub").read_text(encoding="utf-8").splitlines()) == 2


def test_the_example_of_a_deployment_works_as_printed(
    machine: tuple[Machine, dict[str, str]], tmp_path: Path
) -> None:
    """Three calls are refused, for the reasons that the text says; all others succeed."""
    shorthands = commands("README.md", "A release from end to end")[0]
    said = run_as_printed(
        [shorthands, *commands("docs/deployments.md", "An example")], machine[1], tmp_path
    )

    refusals = ("not completed in Dev", "somebody else has to", "no earlier stable release")
    places = [said.index(refusal) for refusal in refusals]
    assert places == sorted(places)
    assert "GATE_STATUS_UNSATISFIED" in said
    assert "0 of 1 approvals" in said
    assert "APPROVAL_STATUS_APPROVED" in said


def test_an_executor_works_as_printed(
    machine: tuple[Machine, dict[str, str]], tmp_path: Path
) -> None:
    """Two calls are refused, for the reasons that the text says, and the stop is confirmed."""
    shorthands = commands("README.md", "A release from end to end")[0]
    said = run_as_printed(
        [shorthands, *commands("docs/executors.md", "An example")], machine[1], tmp_path
    )

    tales = (
        *("is claimed by runner-7", "DEPLOYMENT_STATUS_PAUSED", "is not yours any more"),
        *('"attempt": 2', "DEPLOYMENT_STATUS_CANCELLING", "DEPLOYMENT_STATUS_CANCELLED"),
    )
    places = [said.index(tale) for tale in tales]
    assert places == sorted(places)


async def test_the_walkthrough_works_as_printed(
    machine: tuple[Machine, dict[str, str]], tmp_path: Path
) -> None:
    """Every command succeeds, the board is as the text says, and the CSV is complete."""
    running, environment = machine
    said = run_as_printed(commands("README.md", "A release from end to end"), environment, tmp_path)

    assert "Genuine: " in said
    board = said[said.rindex('"statuses"') :]
    assert re.findall(r'"liveRelease": *"([^"]*)"', board) == ["payment@2.0.0"] * 3
    exported = (tmp_path / "audit.csv").read_text(encoding="utf-8")
    assert exported.startswith(HEADER + "\n")
    rows = list(csv.DictReader(exported.splitlines()))
    await assert_one_row_for_every_version(running, rows)


async def assert_one_row_for_every_version(running: Machine, rows: list[dict[str, str]]) -> None:
    """Compare the exported rows with the versions of all aggregates, and look who made them."""
    connection = await asyncpg.connect(running.database_url())
    try:
        made = await connection.fetchval(VERSIONS)
        pending = await connection.fetchval("SELECT count(*) FROM outbox WHERE sent_at IS NULL")
        producers = await connection.fetch(
            "SELECT producer, count(*) FROM audit_logs WHERE category <> 'access' GROUP BY producer"
        )
    finally:
        await connection.close()
    assert pending == 0
    by_producer = {row["producer"]: row["count"] for row in producers}
    assert by_producer["seed"] == 20
    assert by_producer["catalog"] + by_producer["deployment"] == made
    assert len(rows) == sum(by_producer.values())
    changes = [row for row in rows if row["Resource Type"] == "deployment" and row["User Agent"]]
    assert changes
    assert {row["IP Address"] for row in changes} >= {"127.0.0.1"}
    assert all(row["User ID"] for row in changes)
