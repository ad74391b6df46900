"""ExecutionService: the RPCs of executors, and of people when something went wrong."""

from release_manager.deployment.v1 import execution_pb2_grpc

from services.deployment.servicer_execution.interventions import InterventionRpcs
from services.deployment.servicer_execution.leases import LeaseRpcs


class ExecutionServicer(LeaseRpcs, InterventionRpcs, execution_pb2_grpc.ExecutionServiceServicer):
    """Hands work to executors, takes it back, and lets people decide about failures."""
