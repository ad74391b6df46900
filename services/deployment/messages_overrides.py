"""Between the messages of overrides and the values of this service."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from release_manager.deployment.v1 import deployment_pb2, restrictions_pb2
from release_manager.deployment.v1 import restrictions_pb2 as pb

from services.deployment.messages_enums import OVERRIDABLE_GATE, OVERRIDABLE_GATE_WORD
from services.deployment.messages_ids import optional_id
from services.deployment.messages_times import timestamp
from services.deployment.operations.overrides import OverridesQuery
from services.deployment.rules.overrides import NewOverride, OverridableGate
from services.deployment.store.dossiers import Dossier
from services.deployment.store.override_rows import OverrideRow
from shared.db.keyset import PageRequest


def new_overrides(
    given: Iterable[deployment_pb2.NewOverride | restrictions_pb2.OverrideGateRequest],
) -> tuple[NewOverride, ...]:
    """Return the overrides that a request gives."""
    return tuple(
        NewOverride(OverridableGate(OVERRIDABLE_GATE_WORD[one.gate]), one.reason) for one in given
    )


def overrides(request: pb.ListOverridesRequest, page: PageRequest) -> OverridesQuery:
    """Return which overrides a request asks for."""
    return OverridesQuery(
        page=page,
        deployment_id=optional_id(request.deployment),
        service=request.service,
        environment=request.environment,
        author=request.author,
        gate=OVERRIDABLE_GATE_WORD.get(request.gate),
    )


def gate_override(value: OverrideRow) -> pb.GateOverride:
    """Return an override."""
    return pb.GateOverride(
        id=str(value.id),
        deployment_id=str(value.deployment_id),
        service=value.service,
        release=f"{value.service}@{value.version}",
        environment=value.environment,
        gate=OVERRIDABLE_GATE[value.gate],
        reason=value.reason,
        author_id=str(value.author_id),
        author=value.author,
        created_at=timestamp(value.created_at),
    )


def of_deployment(dossier: Dossier) -> list[pb.GateOverride]:
    """Return the overrides of a deployment, in the order in which they were given."""
    rows = (
        OverrideRow(
            id=UUID(row["id"]),
            deployment_id=dossier.id,
            service=dossier.service,
            version=dossier.version,
            environment=dossier.environment,
            gate=row["gate"],
            reason=row["reason"],
            author_id=UUID(row["author_id"]),
            author=row["author"],
            created_at=datetime.fromisoformat(row["created_at"]),
        )
        for row in dossier.overrides
    )
    return [gate_override(row) for row in rows]


def given(value: OverrideRow | None) -> pb.OverrideGateResponse:
    """Answer OverrideGate; None is never sent, because the call is refused then."""
    return pb.OverrideGateResponse(override=None if value is None else gate_override(value))
