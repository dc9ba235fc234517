"""TLS between client and server; certificates that change on disk are used without a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from meshkit.background import end_task
from meshkit.tls.pem import Pem, PemFiles, PemWatch

__all__ = ["ClientTls", "ServerTls", "channel_credentials"]


def channel_credentials(pem: Pem) -> grpc.ChannelCredentials:
    """What a channel needs to verify its server, and to show its own certificate if it has one."""
    return grpc.ssl_channel_credentials(pem.ca, pem.key, pem.cert)


@dataclass(frozen=True, slots=True)
class ClientTls:
    """How a client verifies a server, and shows its own certificate.

    Args:
        pem: its files: the authorities of the servers' certificates; certificate and key where servers ask for them.
        server_name: the name that the servers' certificates must have. None: the host of the instance's address,
            which a certificate made beforehand cannot know where addresses are those of pods.
    """

    pem: PemWatch
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Credentials for a new channel; a channel keeps the certificates that it began with."""
        return channel_credentials(self.pem.pem)

    def options(self) -> tuple[tuple[str, str], ...]:
        """Channel options that go with the credentials."""
        return (("grpc.ssl_target_name_override", self.server_name),) if self.server_name else ()

    @asynccontextmanager
    async def renewing(self, renew: Callable[[], None], *, every: float = 1.0) -> AsyncIterator[None]:
        """Call `renew` (an Endpointer's, say) when the certificates have changed, while the body runs.

        The files are checked every `every` seconds; certificates that cannot be used are logged and ignored.
        """

        async def look() -> None:
            while True:
                await asyncio.sleep(every)
                if self.pem.changed():
                    renew()

        task = asyncio.create_task(look(), name="certificates")
        try:
            yield
        finally:
            await end_task(task)


class ServerTls:
    """A server's certificate, whether its clients need one, and which of them may call.

    Args:
        files: certificate and key; `ca`: the authorities of the clients' certificates.
        require_client: refuse clients without a certificate of those authorities. Default True.
        client_names: who may call, by a DNS name or URI among the subject alternative names of the certificate; `serve`
            enforces it (`CallerInterceptor`). Default none: all that have a certificate of those authorities.

    Raises:
        ValueError: the files cannot be used (`PemFiles.read`), or there are names although clients need no certificate.
    """

    def __init__(self, files: PemFiles, *, require_client: bool = True, client_names: Collection[str] = ()) -> None:
        if files.cert is None:
            raise ValueError("expected a certificate and a key for the server, got neither")
        if client_names and not require_client:
            raise ValueError("expected names of clients only where clients need a certificate")
        self.client_names = tuple(client_names)
        self._watch = PemWatch(files)
        self._require_client = require_client

    def credentials(self) -> grpc.ServerCredentials:
        """Credentials that follow the files: gRPC asks at each handshake; open connections are not affected."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration(self._watch.pem),
            self._fetch,  # type: ignore[arg-type]  # None is allowed: as before
            require_client_authentication=self._require_client,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        return self._configuration(self._watch.pem) if self._watch.changed() else None

    def _configuration(self, pem: Pem) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration(
            [(pem.key or b"", pem.cert or b"")], root_certificates=pem.ca if self._require_client else None
        )
