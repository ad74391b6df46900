"""Calls that are wrong as calls: too large, too late, cut off, to nobody, or no gRPC at all."""

import asyncio
import socket
from typing import Any

import grpc
import pytest
from release_manager.catalog.v1 import catalog_pb2

from shared.rpc.server import MEBIBYTE
from tests.support import wire
from tests.support.platform import (
    AUDIT,
    CATALOG,
    DEPLOYMENT,
    IDENTITY,
    Platform,
    dial,
    product_methods,
)
from tests.support.raw_calls import Answer, answer_of, some_at_a_time
from tests.support.rows import changed, fingerprints

pytestmark = pytest.mark.asyncio(loop_scope="session")

Code = grpc.StatusCode
METHODS = sorted(product_methods())
READS = {AUDIT: f"/{AUDIT}/ListAuditLogs", IDENTITY: f"/{IDENTITY}/WhoAmI",
         CATALOG: f"/{CATALOG}/ListTeams", DEPLOYMENT: f"/{DEPLOYMENT}/ListRollbacks"}  # fmt: skip
LARGEST = {AUDIT: 4 * MEBIBYTE, CATALOG: MEBIBYTE, DEPLOYMENT: 2 * MEBIBYTE}
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NOT_GRPC = {
    "HTTP/1.1": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(64),
    "junk": b"\xff" * 4_096,
    "preface and junk": PREFACE + b"\xff" * 1_024,
    "half a preface": b"PRI * HTTP",
    "a frame too long": PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
}


async def alive(platform: Platform) -> bool:
    """Say whether all services still answer an ordinary call, on their old connections."""
    admin = await platform.person("admin")
    answers = [await platform.ask(method, b"", admin) for method in READS.values()]
    return all(answer.ok for answer in answers)


def padded(size: int) -> bytes:
    """Return a message of exactly so many bytes, all of them of a field that nobody knows."""
    flag = wire.tag(901, wire.VARINT) + b"\x01"
    room = size - len(wire.block(900, b"a" * size)) + size
    message = wire.block(900, b"a" * room)
    # A length just below a power of 128 takes a byte less than the size itself.
    message = message if len(message) == size else wire.block(900, b"a" * (room - 2)) + flag
    assert len(message) == size
    return message


@pytest.mark.parametrize("service", LARGEST)
async def test_a_message_of_the_largest_size_and_one_byte_more(
    platform: Platform, service: str
) -> None:
    admin = await platform.person("admin")
    assert (await platform.ask(READS[service], padded(LARGEST[service]), admin)).ok
    for size in (LARGEST[service] + 1, 16 * MEBIBYTE):
        answer = await platform.ask(READS[service], padded(size), admin)
        assert answer.code is Code.RESOURCE_EXHAUSTED
    assert await alive(platform)


@pytest.mark.parametrize("service", LARGEST)
async def test_a_message_that_unpacks_to_a_thousand_times_its_size(
    platform: Platform, service: str
) -> None:
    admin = await platform.person("admin")
    bomb = padded(32 * MEBIBYTE)
    answer = await platform.ask(READS[service], bomb, admin, compression=grpc.Compression.Gzip)
    assert answer.code is Code.RESOURCE_EXHAUSTED
    assert await alive(platform)


@pytest.mark.parametrize("service", READS)
async def test_metadata_has_a_limit(platform: Platform, service: str) -> None:
    admin = await platform.person("admin")

    async def answer(*more: tuple[str, str | bytes]) -> Code:
        return (await platform.ask(READS[service], b"", (*admin, *more))).code

    assert await answer(("a", "a" * 4_096)) is Code.OK
    assert await answer(*((f"a{number}", "") for number in range(100))) is Code.OK
    assert await answer(("a-bin", bytes(range(256)))) is Code.OK
    assert await answer(("a", "a" * 7_168)) in {Code.OK, Code.RESOURCE_EXHAUSTED}
    for size in (16_384, 20_480, 65_536):
        assert await answer(("a", "a" * size)) is Code.RESOURCE_EXHAUSTED
    many = [(f"a{number}", "a") for number in range(1_000)]
    assert await answer(*many) is Code.RESOURCE_EXHAUSTED
    assert await alive(platform)


ODD_METADATA: dict[str, tuple[tuple[str, str | bytes], ...]] = {
    "request id of spaces": (("x-request-id", " "),),
    "request id long": (("x-request-id", "a" * 65),),
    "request id twice": (("x-request-id", "a"), ("x-request-id", "b")),
    "request id a formula": (("x-request-id", "=1+1"),),
    "forwarded nonsense": (("x-forwarded-for", "a, ::1, 999.1.1.1,,"),),
    "deadline in metadata": (("x-timeout", "-1"),),
    "binary": (("a-bin", b"\0\xff"),),
    "on behalf of nobody": (("x-on-behalf-of", "admin"),),
    "on behalf of nothing": (("x-on-behalf-of", ""),),
    "on behalf of much": (("x-on-behalf-of", "a" * 1_000),),
    "on behalf of two": (("x-on-behalf-of", "dev1"), ("x-on-behalf-of", "dev2")),
}


@pytest.mark.parametrize("name", ODD_METADATA)
async def test_odd_metadata(platform: Platform, name: str) -> None:
    plain = await platform.person("admin")
    program = await platform.program("admin", "on_behalf_of", "audit.read")
    for caller in (plain, program):
        for method in READS.values():
            answer = await platform.ask(method, b"", (*caller, *ODD_METADATA[name]))
            behalf = "behalf" in name
            fine = {Code.OK, *(Code.PERMISSION_DENIED, Code.NOT_FOUND)[: 2 * behalf]}
            assert answer.code in fine, answer
            assert answer.ok or answer.reason


@pytest.mark.parametrize("method", METHODS)
async def test_deadlines_that_cannot_be_kept(platform: Platform, method: str) -> None:
    admin = await platform.person("admin")
    for seconds in (0.0, 1e-6, 0.001, 0.01):
        answer = await platform.ask(method, b"", admin, seconds=seconds)
        assert answer.code in {Code.DEADLINE_EXCEEDED, *END[: seconds > 0.001]}, answer


END = (Code.INVALID_ARGUMENT, Code.OK, Code.PERMISSION_DENIED)


async def test_a_deadline_beyond_all_times(platform: Platform) -> None:
    admin = await platform.person("admin")
    for method in READS.values():
        assert (await platform.ask(method, b"", admin, seconds=10 * 86_400.0)).ok


async def test_calls_that_are_cut_off_leave_nothing_behind(platform: Platform) -> None:
    """Cancel changes at every moment: each is there as a whole, with its answer, or not at all."""
    admin = await platform.person("admin")
    method = f"/{CATALOG}/CreateTeam"
    requests = [catalog_pb2.CreateTeamRequest(name=f"Cut {number}") for number in range(60)]

    async def cut(number: int) -> Answer:
        call = asyncio.ensure_future(platform.ask(method, requests[number], admin))
        await asyncio.sleep(number / 2_000)
        call.cancel()
        try:
            return await call
        except asyncio.CancelledError:
            return Answer(Code.CANCELLED)

    answers = await some_at_a_time(map(cut, range(60)))
    assert {answer.code for answer in answers} <= {Code.OK, Code.CANCELLED}
    for request, answer in zip(requests, answers, strict=True):
        again = await platform.ask(method, request, admin)
        assert again.code in (
            {Code.ALREADY_EXISTS} if answer.ok else {Code.OK, Code.ALREADY_EXISTS}
        )
    assert await alive(platform)
    assert platform.errors == []


UNKNOWN = [f"/{CATALOG}/Nothing", f"/{CATALOG}/createTeam", f"/{AUDIT}/CreateTeam", f"/{CATALOG}/",
           "/nothing.v1.Nothing/Nothing", "/", "//", "/a", f"/{CATALOG}/CreateTeam/",
           f"/{CATALOG}/" + "a" * 4_000, f"/{CATALOG}/%00", "/../../etc/passwd"]  # fmt: skip


@pytest.mark.parametrize("method", UNKNOWN)
async def test_methods_that_are_not_there(platform: Platform, method: str) -> None:
    admin = await platform.person("admin")
    for metadata in ((), admin):
        call: Any = platform.channels[CATALOG].unary_unary(method)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call(b"", metadata=metadata)
        assert failed.value.code() is Code.UNIMPLEMENTED
        assert "Traceback" not in (failed.value.details() or "")


# What grpc.aio's client says by itself when the call has ended while it was still writing.
WRITE_FAILED = "Internal error from Core"


@pytest.mark.parametrize("count", [0, 2, 50])
@pytest.mark.parametrize("service", READS)
async def test_another_number_of_requests_than_one(
    platform: Platform, service: str, count: int
) -> None:
    """None at all is never answered by gRPC's asyncio server: the caller's deadline ends it."""
    admin = await platform.person("admin")
    kind: Any = platform.channels[service].stream_stream(READS[service])
    answer = None
    for _ in range(20):
        call = kind(iter([b""] * count), metadata=admin, timeout=20 if count else 0.3)
        try:
            assert len([message async for message in call]) == 1
        except grpc.aio.AioRpcError as failure:
            answer = answer_of(failure)
            if answer.text == WRITE_FAILED:
                continue
            expected = Code.INVALID_ARGUMENT if count else Code.DEADLINE_EXCEEDED
            assert answer.code is expected, answer
        break
    else:
        pytest.fail(f"the client never heard the server: {answer}")
    assert await alive(platform)


@pytest.mark.parametrize("name", NOT_GRPC)
async def test_what_is_not_grpc_at_all(platform: Platform, name: str) -> None:
    before = await fingerprints(platform.database_url)
    for address in platform.addresses.values():
        host, _colon, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), family=socket.AF_INET)
        writer.write(NOT_GRPC[name])
        try:
            async with asyncio.timeout(0.3):
                await reader.read()
        except (TimeoutError, ConnectionError):
            pass
        writer.close()
    assert changed(before, await fingerprints(platform.database_url)) == {}
    assert await alive(platform)


async def test_a_thousand_calls_opened_and_dropped(platform: Platform) -> None:
    admin = await platform.person("admin")
    async with dial(platform.addresses["catalog"]) as channel:
        method: Any = channel.unary_unary(READS[CATALOG])
        for _ in range(1_000):
            method(b"", metadata=admin).cancel()
    assert await alive(platform)
    assert platform.errors == []
