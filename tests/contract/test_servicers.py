"""Every RPC that the contract declares reaches code of ours, driven by the descriptors.

grpcio-testing knows no asyncio, so a handler runs to its end on a loop of its own; and the
servicers get no dependencies, so that only the way to the handler is tested here. What handlers
answer is tested on real servers.
"""

import asyncio
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import grpc_testing
import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass
from release_manager.audit.v1 import audit_pb2_grpc, notifications_pb2_grpc, retention_pb2_grpc
from release_manager.catalog.v1 import catalog_pb2_grpc
from release_manager.deployment.v1 import (
    deployment_pb2_grpc,
    execution_pb2_grpc,
    insights_pb2_grpc,
    output_pb2_grpc,
    restrictions_pb2_grpc,
)
from release_manager.identity.v1 import identity_pb2_grpc

import services
from tests.contract.test_protos import METHODS, _called

GENERATED = {
    "release_manager.audit.v1.AuditService": audit_pb2_grpc.AuditServiceServicer,
    "release_manager.audit.v1.NotificationService": (
        notifications_pb2_grpc.NotificationServiceServicer
    ),
    "release_manager.audit.v1.RetentionService": retention_pb2_grpc.RetentionServiceServicer,
    "release_manager.catalog.v1.CatalogService": catalog_pb2_grpc.CatalogServiceServicer,
    "release_manager.deployment.v1.DeploymentService": (
        deployment_pb2_grpc.DeploymentServiceServicer
    ),
    "release_manager.deployment.v1.ExecutionService": execution_pb2_grpc.ExecutionServiceServicer,
    "release_manager.deployment.v1.InsightService": insights_pb2_grpc.InsightServiceServicer,
    "release_manager.deployment.v1.OutputService": output_pb2_grpc.OutputServiceServicer,
    "release_manager.deployment.v1.RestrictionService": (
        restrictions_pb2_grpc.RestrictionServiceServicer
    ),
    "release_manager.identity.v1.IdentityService": identity_pb2_grpc.IdentityServiceServicer,
}


class Alone:
    """A servicer without its dependencies, whose coroutines and generators run to their end."""

    def __init__(self, servicer_class: type) -> None:
        self._servicer: object = object.__new__(servicer_class)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        handler = getattr(self._servicer, name)

        def call(request: object, context: object) -> object:
            answer = handler(request, context)
            if hasattr(answer, "__anext__"):
                return iter([asyncio.run(anext(answer))])
            return asyncio.run(answer) if asyncio.iscoroutine(answer) else answer

        return call


def _servicer_class(service: ServiceDescriptor) -> type:
    for module in pkgutil.walk_packages(services.__path__, "services."):
        if module.name.rpartition(".")[2].startswith("servicer"):
            importlib.import_module(module.name)
    generated = GENERATED[service.full_name]
    (ours,) = (c for c in _descendants(generated) if c.__module__.startswith("services."))
    return ours


def _descendants(parent: type) -> Iterator[type]:
    children: list[type] = parent.__subclasses__()
    for child in children:
        yield child
        yield from _descendants(child)


def _invoke(service: ServiceDescriptor, method: MethodDescriptor) -> grpc.StatusCode:
    """Return the status of calling `method` with an empty request."""
    code: grpc.StatusCode
    alone = Alone(_servicer_class(service))
    server = grpc_testing.server_from_dictionary({service: alone}, grpc_testing.strict_real_time())
    request = GetMessageClass(method.input_type)()
    if method.server_streaming:
        call = server.invoke_unary_stream(method, (), request, None)
    else:
        call = server.invoke_unary_unary(method, (), request, None)
        _answer, _metadata, code, _details = call.termination()
        return code
    _metadata, code, _details = call.termination()
    return code


@pytest.mark.parametrize("method", METHODS, ids=_called)
def test_every_declared_rpc_is_implemented(method: MethodDescriptor) -> None:
    assert _invoke(method.containing_service, method) is not grpc.StatusCode.UNIMPLEMENTED
