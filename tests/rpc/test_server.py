"""Starting, being described, being asked for health, and stopping in good order."""

import asyncio
import urllib.request
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from shared.rpc.server import RpcServer, ServerOptions, ServerUnusable
from tests.rpc.calls import VIEWER, call, failure, is_of_grpc_itself, raw, refusal, until
from tests.rpc.conftest import SERVICE, Running, running_server
from tests.rpc.echo import KnownTokens
from tests.rpc.protos.echo_pb2 import EchoRequest
from tests.support.machine import free_ports

pytestmark = pytest.mark.asyncio(loop_scope="session")

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


def health(running: Running) -> Any:
    return health_pb2_grpc.HealthStub(running.channel)


def asked(service: str = "") -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


async def test_health_needs_no_credentials(running: Running) -> None:
    for name in ("", SERVICE, "liveness"):
        assert (await health(running).Check(asked(name))).status == SERVING
    listed = await health(running).List(health_pb2.HealthListRequest())
    assert {name: found.status for name, found in listed.statuses.items()} == {
        "": SERVING,
        SERVICE: SERVING,
        "liveness": SERVING,
    }


async def test_health_of_an_unknown_service(running: Running) -> None:
    failed = await failure(health(running).Check(asked("nope")))
    assert failed.code() is grpc.StatusCode.NOT_FOUND
    watch = health(running).Watch(asked("nope"))
    assert (await watch.read()).status == UNKNOWN
    watch.cancel()


async def test_watchers_hear_changes_and_the_end(running: Running) -> None:
    watch = health(running).Watch(asked())
    assert (await watch.read()).status == SERVING
    stopping = asyncio.ensure_future(running.server.stop())
    assert (await watch.read()).status == NOT_SERVING
    failed = await failure(watch.read())
    assert failed.code() is grpc.StatusCode.UNAVAILABLE
    await asyncio.wait_for(stopping, 20)


async def test_readiness_follows_the_probe() -> None:
    answers = [True]

    async def readiness() -> bool:
        if not answers:
            raise OSError
        return answers[0]

    options = ServerOptions(address="127.0.0.1:0")
    server = RpcServer(options, verifier=KnownTokens(), readiness=readiness)
    await server.start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(asked())
        assert (await watch.read()).status == SERVING
        answers[:] = [False]
        assert (await asyncio.wait_for(watch.read(), 20)).status == NOT_SERVING
        assert (await stub.Check(asked("liveness"))).status == SERVING
        answers[:] = [True]
        assert (await asyncio.wait_for(watch.read(), 20)).status == SERVING
        answers.clear()
        assert (await asyncio.wait_for(watch.read(), 20)).status == NOT_SERVING
        watch.cancel()
    await server.stop()


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
async def test_reflection(running: Running, version: str) -> None:
    rpc: Any = running.channel.stream_stream(
        f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest
    symbols = (
        SERVICE,
        "release_manager.common.v1.Role",
        f"grpc.reflection.{version}.ErrorResponse",
    )
    requests = [request(list_services="")]
    requests += [request(file_containing_symbol=symbol) for symbol in (*symbols, "no.Such")]
    listed, echo, access, itself, missing = [answer async for answer in rpc(iter(requests))]
    assert [found.name for found in listed.list_services_response.service] == [
        SERVICE,
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    sent = [files_in(answer) for answer in (echo, access, itself)]
    assert sent[0][0].name == "tests/rpc/protos/echo.proto"
    assert "buf/validate/validate.proto" in {file.name for file in sent[0]}
    comments = [place.leading_comments for place in sent[1][0].source_code_info.location]
    assert any("Reads the catalog and deployments." in comment for comment in comments)
    assert sent[2][0].package == f"grpc.reflection.{version}"
    assert missing.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def files_in(answer: Any) -> list[FileDescriptorProto]:
    files = answer.file_descriptor_response.file_descriptor_proto
    return [FileDescriptorProto.FromString(file) for file in files]


@pytest.mark.parametrize("running", [{"reflection": False}], indirect=True)
async def test_reflection_can_be_switched_off(running: Running) -> None:
    for version in ("v1", "v1alpha"):
        method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
        failed = await failure(raw(running.channel.stream_stream, method)(iter([b""])).read())
        assert failed.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_port_that_is_taken(running: Running) -> None:
    second = RpcServer(ServerOptions(address=running.server.address), verifier=KnownTokens())
    with pytest.raises(
        ServerUnusable, match=f"cannot listen on {running.server.address}: is it in"
    ):
        await second.start()


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0", "192.0.2.1:50051", "example.com:1"])
async def test_plaintext_stays_on_this_machine(address: str) -> None:
    server = RpcServer(ServerOptions(address=address), verifier=KnownTokens())
    with pytest.raises(ServerUnusable, match="not a loopback address"):
        await server.start()


async def test_plaintext_elsewhere_by_explicit_choice() -> None:
    async for running in running_server(address="0.0.0.0:0", allow_plaintext=True):
        assert running.server.address.startswith("0.0.0.0:")


@pytest.mark.parametrize("running", [{"grace_seconds": 30}], indirect=True)
@pytest.mark.parametrize("method", ["Yield", "Write", "Chat", "ChatWrite"])
async def test_streams_are_told_and_end_themselves(running: Running, method: str) -> None:
    act = EchoRequest(act="until stopping")
    task = asyncio.ensure_future(refusal(call(running, method, act)))
    await until(lambda: running.servicer.entered == 1)
    await asyncio.wait_for(running.server.stop(), 10)
    assert (await task).reason == "SERVER_STOPPING"


@pytest.mark.parametrize("running", [{"grace_seconds": 30}], indirect=True)
async def test_draining_lets_calls_finish(running: Running) -> None:
    task = asyncio.ensure_future(call(running, "Say", EchoRequest(act="nap", text="done")))
    await until(lambda: running.servicer.entered == 1)
    await running.server.stop()
    [answer] = await task
    assert answer.text == "done"


async def test_what_does_not_end_is_cut_after_the_grace_period(running: Running) -> None:
    task = asyncio.ensure_future(failure(call(running, "Write", EchoRequest(act="wait"))))
    await until(lambda: running.servicer.entered == 1)
    started = asyncio.get_running_loop().time()
    await running.server.stop()
    assert 0.8 < asyncio.get_running_loop().time() - started < 15
    assert (await task).code() is grpc.StatusCode.UNAVAILABLE
    assert running.servicer.cancelled == 1


@pytest.mark.parametrize("running", [{"max_concurrent_calls": 2}], indirect=True)
async def test_no_more_calls_at_a_time_than_allowed(running: Running) -> None:
    waiting = [running.stub.Say(EchoRequest(act="wait"), metadata=VIEWER) for _ in range(2)]
    await until(lambda: running.servicer.entered == 2)
    failed = await failure(call(running, "Say", EchoRequest()))
    assert failed.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert is_of_grpc_itself(failed)
    for made in waiting:
        made.cancel()


async def test_metrics() -> None:
    address = f"127.0.0.1:{free_ports(1)[0]}"
    async for running in running_server(metrics_address=address):
        await call(running, "Say", EchoRequest(text="hello"))
        await failure(raw(running.channel.unary_unary, "/x.Y/Z")(b""))
        page = await asyncio.to_thread(_page, f"http://{address}/metrics")
        line = 'rpc_server_call_duration_seconds_count{rpc_method="/echo.v1.EchoService/Say",'
        assert line + 'rpc_response_status_code="OK"}' in page
        assert "x.Y" not in page
        assert "rpc_server_unknown_methods_total" in page
        second = ServerOptions(address="127.0.0.1:0", metrics_address=address)
        with pytest.raises(ServerUnusable, match=f"cannot serve metrics on {address}"):
            await RpcServer(second, verifier=KnownTokens()).start()


def _page(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310  (our own address)
        text: str = answer.read().decode()
    return text
