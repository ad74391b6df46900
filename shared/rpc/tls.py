"""Certificates of servers and clients, read from files, anew when they change."""

from dataclasses import dataclass
from pathlib import Path

import grpc


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of PEM files.

    A server needs `certificate` and `key`; with `authorities` it accepts only clients that show a
    certificate of one of them. A client needs none of the three: without `authorities` it trusts
    those of the system, and it shows `certificate` when it has one.
    """

    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None

    @property
    def paths(self) -> tuple[Path | None, Path | None, Path | None]:
        """The three paths."""
        return (self.certificate, self.key, self.authorities)


def server_credentials(tls: Tls) -> grpc.ServerCredentials:
    """Return credentials that follow the files: a new certificate needs no restart."""
    latest = _Files(tls)
    return grpc.dynamic_ssl_server_credentials(
        latest.configuration(), latest.configuration, tls.authorities is not None
    )


def channel_credentials(tls: Tls) -> grpc.ChannelCredentials:
    """Return the credentials of a client, with the files as they are now."""
    certificate, key, authorities = (path.read_bytes() if path else None for path in tls.paths)
    return grpc.ssl_channel_credentials(authorities, key, certificate)


class _Files:
    """The certificate configuration of a server; gRPC asks for it at every handshake."""

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._seen: tuple[int, ...] = ()
        self._configuration = self._read()

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return the newest usable one: while files are being replaced, the one before."""
        try:
            if self._stamps() != self._seen:
                self._configuration = self._read()
        except OSError:
            pass
        return self._configuration

    def _stamps(self) -> tuple[int, ...]:
        return tuple(path.stat().st_mtime_ns for path in self._tls.paths if path)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        stamps = self._stamps()
        certificate, key, authorities = (
            path.read_bytes() if path else None for path in self._tls.paths
        )
        if certificate is None or key is None:
            missing = "a server with TLS needs both a certificate and its key"
            raise ValueError(missing)
        self._seen = stamps
        return grpc.ssl_server_certificate_configuration([(key, certificate)], authorities)
