"""The methods of a server by the name under which they are called, with what the protos say."""

from collections.abc import Iterable, Mapping

from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message

Methods = Mapping[str, MethodDescriptor]


def methods_of(
    services: Iterable[str], pool: descriptor_pool.DescriptorPool | None = None
) -> Methods:
    """Return the methods of services as `/package.Service/Method`; KeyError for an unknown one."""
    pool = pool or descriptor_pool.Default()
    return {
        f"/{service}/{method.name}": method
        for service in services
        for method in pool.FindServiceByName(service).methods
    }


def request_class(method: MethodDescriptor) -> type[Message]:
    """Return the class of a method's request."""
    return message_factory.GetMessageClass(method.input_type)
