"""`python -m services`: up, down, up again with the data, and clear words when it cannot."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from shared.db.postmaster import wait_until
from tests.support.grpcurl import install
from tests.support.machine import COMMAND, SERVICES, Machine, free_ports, own_environment


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Provide an environment with ports and a data directory of its own."""
    with own_environment() as values:
        yield values


def refused(environment: Mapping[str, str]) -> str:
    """Run it where it must not start, and return its sentences."""
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    return done.stderr


def alive(pid: int) -> bool:
    """Say whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_comes_up_and_goes_down_as_a_whole(
    environment: dict[str, str], number: signal.Signals
) -> None:
    with Machine(environment) as machine:
        machine.wait_for("\nready\n")
        said = machine.said()
        for name in SERVICES:
            assert environment[f"{name.upper()}_ADDRESS"] in said
        for needed in ("password123", "viewer2", "rmt_", "grpcurl -plaintext", "LogAction"):
            assert needed in said
        processes = [machine.postgres(), *machine.children().values()]
        assert len(processes) == 4
        machine.process.send_signal(number)
        assert machine.process.wait(60) == 0
        assert not any(alive(pid) for pid in processes)
        assert not (machine.data / "postgres" / "postmaster.pid").exists()
        assert machine.said().endswith("stopped\n")


def test_the_printed_calls_work_as_pasted(environment: dict[str, str], tmp_path: Path) -> None:
    install(tmp_path)
    with Machine(environment) as machine:
        machine.wait_for("\nready\n")
        lines = machine.said().partition("To try it, paste:\n")[2].partition("\nready\n")[0]
        shell = environment | {"PATH": f"{tmp_path}{os.pathsep}{environment['PATH']}"}
        done = subprocess.run(
            ["bash", "-eo", "pipefail", "-c", lines],
            env=shell,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    for expected in ("auth", "Prod", "ID,User ID,Action,Resource Type,Resource ID", "OPS-1"):
        assert expected in done.stdout


def test_ctrl_c_in_a_terminal_leaves_the_order_of_stopping_to_us(
    environment: dict[str, str],
) -> None:
    with Machine(environment) as machine:
        machine.wait_for("\nready\n")
        os.killpg(machine.process.pid, signal.SIGINT)
        assert machine.process.wait(60) == 0
        assert "starts again" not in machine.said()


def test_a_crashed_child_is_started_again_and_said_so(environment: dict[str, str]) -> None:
    with Machine(environment) as machine:
        machine.wait_for("\nready\n")
        before = machine.children()
        os.kill(before["catalog"], signal.SIGKILL)
        machine.wait_for("catalog was ended by SIGKILL; it starts again in 0.5 s")
        os.kill(machine.postgres(), signal.SIGKILL)
        machine.wait_for("PostgreSQL has ended; it starts again in 0.5 s")
        assert wait_until(lambda: machine.children().keys() == before.keys(), 20)
        assert wait_until(machine.has_postgres, 20)
        assert machine.children()["audit"] == before["audit"]


def test_a_killed_launcher_leaves_nothing_in_the_way(environment: dict[str, str]) -> None:
    with Machine(environment) as machine:
        machine.wait_for("\nready\n")
        machine.process.kill()
        machine.process.wait()
    with Machine(environment) as machine:
        machine.wait_for("\nready\n")


def test_a_stop_during_the_start_is_a_stop(environment: dict[str, str]) -> None:
    with Machine(environment) as machine:
        machine.wait_for("PostgreSQL runs on")
        postgres = machine.postgres()
        machine.process.terminate()
        assert machine.process.wait(60) == 0
        assert not alive(postgres)


def test_a_second_one_on_the_same_data_is_refused(environment: dict[str, str]) -> None:
    with Machine(environment) as machine:
        machine.wait_for("PostgreSQL runs on")
        ports = iter(free_ports(len(SERVICES)))
        other = environment | {f"{n.upper()}_ADDRESS": f"127.0.0.1:{next(ports)}" for n in SERVICES}
        assert f"in use by process {machine.process.pid}" in refused(other)


def test_ports_in_use_are_all_named(environment: dict[str, str]) -> None:
    held = [
        socket.create_server(("127.0.0.1", int(environment[f"{name}_ADDRESS"].rpartition(":")[2])))
        for name in ("AUDIT", "CATALOG")
    ]
    said = refused(environment)
    for listening in held:
        listening.close()
    assert "AUDIT_ADDRESS" in said
    assert "CATALOG_ADDRESS" in said
    assert "DEPLOYMENT_ADDRESS" not in said
    assert not Path(environment["RELEASE_MANAGER_DATA_DIR"]).exists()


def test_a_foreign_data_directory_is_refused(environment: dict[str, str]) -> None:
    cluster = Path(environment["RELEASE_MANAGER_DATA_DIR"]) / "postgres"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("18\n")
    assert "was not made by Release Manager" in refused(environment)


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql://u:hunter2@127.0.0.1:{port}/x", "nobody listens there"),
        ("postgresql://u:hunter2@localhost:{port}/x", "nobody listens there"),
        ("postgresql://u:hunter2@a.invalid:{port}/x", "cannot be reached"),
        ("postgresql://u:hunter2@/x?host=/nowhere", "cannot be reached"),
        ("hunter2", "DATABASE_URL must look like"),
    ],
)
def test_an_unreachable_database_is_refused(
    environment: dict[str, str], url: str, sentence: str
) -> None:
    said = refused(environment | {"DATABASE_URL": url.format(port=free_ports(1)[0])})
    assert sentence in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    "words", [("services.audit", "rotate-key"), ("services.catalog", "bootstrap")]
)
def test_a_command_that_finds_no_database_says_so(
    environment: dict[str, str], words: tuple[str, str]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("DATABASE_URL is not set, and no database runs on")
    assert len(done.stderr.splitlines()) == 1


def test_an_address_on_the_network_needs_tls_or_permission(environment: dict[str, str]) -> None:
    said = refused(environment | {"AUDIT_ADDRESS": "0.0.0.0:50051"})
    assert "AUDIT_ADDRESS: 0.0.0.0:50051 is not a loopback address" in said


def test_an_answer_comes_soon_when_it_cannot_start(environment: dict[str, str]) -> None:
    began = time.monotonic()
    refused(environment | {"WORKERS": "many"})
    assert time.monotonic() - began < 30
