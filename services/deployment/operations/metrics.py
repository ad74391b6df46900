"""Figures measured about a deployment."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from services.deployment.operations import moves
from services.deployment.store import writing
from services.deployment.store.children import MetricRow
from shared.ids import new_id
from shared.outbox.change import Change


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure; `value` is finite."""

    name: str
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class RecordFigures:
    """Figures to add to a deployment, all or none."""

    deployment_id: UUID
    figures: tuple[Figure, ...]


async def record(change: Change, command: RecordFigures) -> Sequence[MetricRow]:
    """Add the figures, whatever the status of the deployment."""
    case = await moves.open_for_change(change, command.deployment_id)
    rows = [(new_id(), figure.name, figure.value, figure.unit) for figure in command.figures]
    await writing.add_metrics(change.tx, command.deployment_id, rows, change.now)
    details = {
        "metrics": [
            {"name": figure.name, "value": figure.value, "unit": figure.unit}
            for figure in command.figures
        ]
    }
    await moves.move(change, case.dossier, case.status, "record", details=details)
    return [
        MetricRow(metric_id, command.deployment_id, name, value, unit, change.now)
        for metric_id, name, value, unit in rows
    ]
