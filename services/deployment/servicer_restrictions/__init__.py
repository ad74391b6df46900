"""RestrictionService: the RPCs of what keeps deployments from starting, and of overrides."""

from release_manager.deployment.v1 import restrictions_pb2_grpc

from services.deployment.servicer_restrictions.freezes import FreezeRpcs
from services.deployment.servicer_restrictions.locks import LockRpcs
from services.deployment.servicer_restrictions.overrides import OverrideRpcs


class RestrictionServicer(
    FreezeRpcs,
    LockRpcs,
    OverrideRpcs,
    restrictions_pb2_grpc.RestrictionServiceServicer,
):
    """Freezes, locks, and lets deployments past what holds them up."""
