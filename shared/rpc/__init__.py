"""gRPC: how servers are built, how calls are guarded, and how services call one another."""
