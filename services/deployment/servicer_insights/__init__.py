"""InsightService: the RPCs that tell how software is delivered."""

from release_manager.deployment.v1 import insights_pb2_grpc

from services.deployment.servicer_insights.dora import DoraRpcs


class InsightServicer(DoraRpcs, insights_pb2_grpc.InsightServiceServicer):
    """Tells what the history of deployments says."""
