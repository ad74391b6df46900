"""The catalog service: what exists and who may act, over two gRPC services."""
