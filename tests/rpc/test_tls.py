"""Encrypted servers: who is let in, and certificates that change while they run."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from shared.errors import DatabaseUnavailable
from shared.rpc.channel import dial
from shared.rpc.server import RpcServer, ServerOptions, ServerUnusable
from shared.rpc.tls import Tls
from tests.rpc.calls import raw
from tests.rpc.conftest import running_server
from tests.rpc.echo import KnownTokens
from tests.rpc.protos import echo_pb2_grpc
from tests.rpc.protos.echo_pb2 import EchoRequest

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Authority:
    """A certificate authority in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(self._name, self._key)
        builder = builder.add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(_pem(builder.sign(self._key, hashes.SHA256())))

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(hours=1))
        )

    def issue(self, name: str) -> tuple[Path, Path]:
        """Return the paths of a new certificate for 127.0.0.1 and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._builder(subject, key).add_extension(names, critical=False)
        paths = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        paths[0].write_bytes(_pem(certificate.sign(self._key, hashes.SHA256())))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path, "good")


async def say(address: str, tls: Tls | None) -> str:
    async with dial(address, token=lambda: "viewer", tls=tls, seconds=3) as channel:
        answer = await echo_pb2_grpc.EchoServiceStub(channel).Say(EchoRequest(text="hello"))
        return answer.text


async def test_only_those_who_trust_the_certificate(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("server")
    stranger = Authority(tmp_path, "stranger")
    async for running in running_server(tls=Tls(certificate, key)):
        address = running.server.address
        assert await say(address, Tls(authorities=authority.path)) == "hello"
        for tls in (None, Tls(authorities=stranger.path)):
            with pytest.raises(DatabaseUnavailable):
                await say(address, tls)


async def test_clients_show_a_certificate_where_it_is_asked(
    authority: Authority, tmp_path: Path
) -> None:
    tls = Tls(*authority.issue("server"), authorities=authority.path)
    stranger = Authority(tmp_path, "stranger")
    async for running in running_server(tls=tls):
        address = running.server.address
        assert (
            await say(address, Tls(*authority.issue("client"), authorities=authority.path))
            == "hello"
        )
        nothing = Tls(authorities=authority.path)
        for tls in (nothing, Tls(*stranger.issue("intruder"), authorities=authority.path)):
            with pytest.raises(DatabaseUnavailable):
                await say(address, tls)


async def test_a_new_certificate_needs_no_restart(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("server")
    async for running in running_server(tls=Tls(certificate, key)):
        address = running.server.address
        assert await say(address, Tls(authorities=authority.path)) == "hello"
        successor = Authority(tmp_path, "successor")
        successor.issue("server")
        assert await say(address, Tls(authorities=successor.path)) == "hello"
        key.unlink()
        assert await say(address, Tls(authorities=successor.path)) == "hello"


async def test_half_a_pair_is_refused(authority: Authority) -> None:
    certificate, _key = authority.issue("server")
    options = ServerOptions(address="127.0.0.1:0", tls=Tls(certificate))
    with pytest.raises(ServerUnusable, match="needs both a certificate and its key"):
        await RpcServer(options, verifier=KnownTokens()).start()


async def test_plaintext_clients_of_another_library_are_refused(authority: Authority) -> None:
    async for running in running_server(tls=Tls(*authority.issue("server"))):
        async with grpc.aio.insecure_channel(running.server.address) as channel:
            with pytest.raises(grpc.aio.AioRpcError):
                await raw(channel.unary_unary, "/echo.v1.EchoService/SayOpenly")(b"")
