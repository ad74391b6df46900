"""The enums of `deployment.v1` and the words that the rules and the database have for them."""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from release_manager.catalog.v1 import catalog_pb2
from release_manager.deployment.v1 import deployment_pb2 as pb
from release_manager.deployment.v1 import restrictions_pb2

from services.deployment.rules.approvals import ApprovalStatus, Outcome
from services.deployment.rules.board import Health
from services.deployment.rules.difference import Relation
from services.deployment.rules.freezes import WindowKind
from services.deployment.rules.gates import GateStatus
from services.deployment.rules.lifecycle import (
    DeploymentKind,
    DeploymentStatus,
    FailureCause,
    FailureClass,
)
from services.deployment.rules.overrides import OverridableGate
from services.deployment.rules.policy import EnvironmentType, OnFailure, QueueMode
from services.deployment.rules.stages import StageStatus


def _numbers(wire: Any, prefix: str, words: type[StrEnum]) -> Mapping[str, Any]:  # noqa: ANN401
    """Return the number of each word; the names are the same on both sides."""
    named = {name.removeprefix(prefix): number for name, number in wire.items() if number}
    return MappingProxyType({words[name].value: number for name, number in named.items()})


def _words(numbers: Mapping[str, Any]) -> Mapping[int, str]:
    return MappingProxyType({number: word for word, number in numbers.items()})


STATUS = _numbers(pb.DeploymentStatus, "DEPLOYMENT_STATUS_", DeploymentStatus)
STATUS_WORD = _words(STATUS)
KIND = _numbers(pb.DeploymentKind, "DEPLOYMENT_KIND_", DeploymentKind)
KIND_WORD = _words(KIND)
APPROVAL_STATUS = _numbers(pb.ApprovalStatus, "APPROVAL_STATUS_", ApprovalStatus)
DECISION = _numbers(pb.ApprovalDecision, "APPROVAL_DECISION_", Outcome)
DECISION_WORD = _words(DECISION)
CAUSE = _numbers(pb.FailureCause, "FAILURE_CAUSE_", FailureCause)
CLASS = _numbers(pb.FailureClass, "FAILURE_CLASS_", FailureClass)
STAGE_STATUS = _numbers(pb.StageStatus, "STAGE_STATUS_", StageStatus)
STAGE_STATUS_WORD = _words(STAGE_STATUS)
RELATION = _numbers(pb.EnvironmentRelation, "ENVIRONMENT_RELATION_", Relation)
HEALTH = _numbers(pb.Health, "HEALTH_", Health)
GATE = _numbers(pb.GateStatus, "GATE_STATUS_", GateStatus)
OVERRIDABLE_GATE = _numbers(restrictions_pb2.OverridableGate, "OVERRIDABLE_GATE_", OverridableGate)
OVERRIDABLE_GATE_WORD = _words(OVERRIDABLE_GATE)
FREEZE_KIND = _numbers(restrictions_pb2.FreezeKind, "FREEZE_KIND_", WindowKind)
FREEZE_KIND_WORD = _words(FREEZE_KIND)
ENVIRONMENT_TYPE = _numbers(catalog_pb2.EnvironmentType, "ENVIRONMENT_TYPE_", EnvironmentType)
ENVIRONMENT_TYPE_WORD = _words(ENVIRONMENT_TYPE)
ON_FAILURE = _numbers(pb.OnFailure, "ON_FAILURE_", OnFailure)
ON_FAILURE_WORD = _words(ON_FAILURE)
QUEUE_MODE = _numbers(pb.QueueMode, "QUEUE_MODE_", QueueMode)
QUEUE_MODE_WORD = _words(QUEUE_MODE)
ROLLBACK_STATUS: Mapping[str, Any] = MappingProxyType(
    {
        "in-progress": pb.ROLLBACK_STATUS_IN_PROGRESS,
        "completed": pb.ROLLBACK_STATUS_COMPLETED,
        "failed": pb.ROLLBACK_STATUS_FAILED,
    }
)
ROLLBACK_STATUS_WORD = _words(ROLLBACK_STATUS)
