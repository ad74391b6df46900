"""The offline verifier stays offline."""

import subprocess
import sys

PROGRAM = """
import sys
import services.audit.verify.__main__
unwanted = "asyncio asyncpg buf google grpc pydantic release_manager socket sqlalchemy structlog"
print(*(name for name in unwanted.split() if name in sys.modules))
"""


def test_it_needs_neither_network_nor_database_nor_protos() -> None:
    run = [sys.executable, "-c", PROGRAM]
    said = subprocess.run(run, capture_output=True, text=True, check=True)
    assert said.stdout.split() == []


def test_it_says_how_it_is_used() -> None:
    run = [sys.executable, "-m", "services.audit.verify", "export", "--help"]
    said = subprocess.run(run, capture_output=True, text=True, check=True)
    assert "--manifest" in said.stdout
