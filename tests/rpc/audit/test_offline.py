"""What the service answers, as JSON, held against its public key without it."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from release_manager.audit.v1 import audit_pb2 as pb
from release_manager.audit.v1 import retention_pb2

from services.audit.verify.__main__ import GENUINE, NOT_GENUINE, main
from tests.rpc.audit.conftest import Service, as_, event

pytestmark = pytest.mark.asyncio(loop_scope="session")

ERASED = ("user_id", "resource_id", "details", "ip_address", "user_agent")


class Desk:
    """A directory of answers, and the key."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.key = str(directory / "keys" / "ledger.pub")

    def keep(self, name: str, answer: Any) -> str:
        """Write an answer as grpcurl prints it; return the path."""
        path = self.directory / name
        path.write_text(MessageToJson(answer))
        return str(path)

    def entry(self, answer: Any, proof: Any) -> int:
        """Verify an entry."""
        files = [self.keep("entry", answer), "--proof", self.keep("proof", proof)]
        return main(["entry", *files, "--key", self.key])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """Somebody with the key of the service."""
    return Desk(tmp_path)


async def entry_and_proof(audit: Service, position: int) -> tuple[Any, Any]:
    by = as_("lead1")
    found = pb.GetAuditLogRequest(leaf_index=position)
    proved = pb.GetInclusionProofRequest(leaf_index=position)
    return (
        await audit.stub.GetAuditLog(found, metadata=by),
        await audit.stub.GetInclusionProof(proved, metadata=by),
    )


async def test_every_entry_and_its_proof(audit: Service, desk: Desk) -> None:
    for number in range(8):
        made = event(number, user="lead2" if number % 2 else "", user_agent="a" * (number % 3))
        made.ip_address = ("", "10.0.0.1", "::ffff:10.0.0.2", "::102:304")[number % 4]
        made.details.update({"n": [number / 3, 1e15, -0.0, 5e-324], "é": None, "ok": number > 4})
        await audit.log(made)
    for position in range(8):
        answer, proof = await entry_and_proof(audit, position)
        assert desk.entry(answer, proof) == GENUINE
        answer.audit_log.details.update({"n": 4})
        assert desk.entry(answer, proof) == NOT_GENUINE


@pytest.mark.parametrize("fields", [ERASED, *((field,) for field in ERASED)])
async def test_entries_with_erased_fields_too(
    audit: Service, desk: Desk, fields: tuple[str, ...]
) -> None:
    made = event(1, user="lead2", user_agent="someone", ip_address="10.0.0.1")
    made.details.update({"name": "somebody"})
    await audit.log(made, event(2))
    asked = retention_pb2.RedactAuditLogRequest(leaf_index=0, fields=fields, reason="asked for")
    await audit.retention.RedactAuditLog(asked, metadata=as_("admin"))
    answer, proof = await entry_and_proof(audit, 0)
    assert not answer.audit_log.salt
    assert desk.entry(answer, proof) == GENUINE
    answer.audit_log.action = "delete"
    assert desk.entry(answer, proof) == NOT_GENUINE


async def test_an_append_with_its_proof(audit: Service, desk: Desk) -> None:
    asked = pb.LogActionRequest(event=event(1), wait_for=pb.WAIT_FOR_INTEGRATED)
    answer = await audit.stub.LogAction(asked, metadata=as_("deployment"))
    assert desk.entry(answer, answer) == GENUINE


async def test_checkpoints_and_their_proof(audit: Service, desk: Desk) -> None:
    by = as_("lead1")
    await audit.log(*(event(number) for number in range(5)))
    old = await audit.stub.GetCheckpoint(pb.GetCheckpointRequest(), metadata=by)
    await audit.log(*(event(number) for number in range(5, 12)))
    await entry_and_proof(audit, 11)
    new = await audit.stub.GetCheckpoint(pb.GetCheckpointRequest(), metadata=by)
    sizes = (old.checkpoint.tree_size, new.checkpoint.tree_size)
    asked = pb.GetConsistencyProofRequest(from_size=sizes[0], to_size=sizes[1])
    proof = await audit.stub.GetConsistencyProof(asked, metadata=by)
    files = [desk.keep("old", old), desk.keep("new", new), "--proof", desk.keep("proof", proof)]
    assert main(["checkpoints", *files, "--key", desk.key]) == GENUINE
