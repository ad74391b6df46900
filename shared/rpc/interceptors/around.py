"""Run code around every call, whatever its arity and whichever way its handler answers.

gRPC knows four arities, and two ways to answer with a stream: a generator that yields, and a
coroutine that calls `context.write`. All of them become one shape here, a coroutine that takes a
request (or an iterator of requests) and the context; a stream's coroutine writes its answers.
A generator is thus closed in the call's own task when the caller goes away, so that timeouts and
context variables work in it as they do everywhere else.
"""

import inspect
from abc import abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

import grpc

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behaviour = Callable[[Any, Context], Awaitable[Any]]
MaybeHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[MaybeHandler]]


@dataclass(frozen=True, slots=True)
class Rpc:
    """A method as it is called: its full name, `/package.Service/Method`, arity and encoding."""

    method: str
    request_streaming: bool
    response_streaming: bool
    decode: Callable[[bytes], Any] | None
    encode: Callable[[Any], bytes] | None

    @property
    def is_unary(self) -> bool:
        """Say whether one request gives one answer."""
        return not (self.request_streaming or self.response_streaming)


class Around(grpc.aio.ServerInterceptor):
    """An interceptor that runs `around` for each call; one instance serves one server.

    One with `takes_bytes` gets requests as they arrived, and returns a single answer encoded, by
    means of `rpc.decode` and `rpc.encode`; the answers of a stream are encoded by gRPC.
    """

    takes_bytes: ClassVar[bool] = False

    def __init__(self) -> None:
        """Start without wrapped handlers; each method is wrapped once, at its first call."""
        self._wrapped: dict[str, Handler] = {}

    @abstractmethod
    async def around(self, rpc: Rpc, request: Any, context: Context, proceed: Behaviour) -> Any:  # noqa: ANN401  (all messages)
        """Do what is to be done and `return await proceed(request, context)` in the midst of it."""

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> MaybeHandler:
        """Return the wrapped handler of the method, or None when nobody serves it."""
        method = handler_call_details.method
        if method not in self._wrapped:
            handler = await continuation(handler_call_details)
            if handler is None:
                return None
            self._wrapped[method] = self._wrap(method, handler)
        return self._wrapped[method]

    def _wrap(self, method: str, handler: Handler) -> Handler:
        decode, encode = handler.request_deserializer, handler.response_serializer
        streams = bool(handler.request_streaming), bool(handler.response_streaming)
        rpc = Rpc(method, *streams, decode, encode)
        proceed = behaviour_of(handler)

        async def surrounded(request: Any, context: Context) -> Any:  # noqa: ANN401
            return await self.around(rpc, request, context, proceed)

        if self.takes_bytes:
            decode, encode = None, encode if rpc.response_streaming else None
        makers: Any = (grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler)
        if rpc.request_streaming:
            makers = (grpc.stream_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler)
        made: Handler = makers[rpc.response_streaming](surrounded, decode, encode)
        return made


def behaviour_of(handler: Handler) -> Behaviour:
    """Return the function of a handler as a coroutine, whichever way it answers."""
    functions = (handler.unary_unary, handler.unary_stream)
    if handler.request_streaming:
        functions = (handler.stream_unary, handler.stream_stream)
    function: Any = functions[bool(handler.response_streaming)]
    if not inspect.isasyncgenfunction(function):
        behaviour: Behaviour = function
        return behaviour

    async def write_each(request: Any, context: Context) -> None:  # noqa: ANN401
        async with aclosing(function(request, context)) as answers:
            async for answer in answers:
                await context.write(answer)

    return write_each
