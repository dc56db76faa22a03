"""The process around the application: a socket, TLS where asked for, and a clean end."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from howdah.errors import ServiceError
from howdah.service.http_service import Service

__all__ = ["Address", "Server", "is_loopback", "running"]

MOST_CONNECTIONS = 1024
GRACE_S = 3
START_S = 20.0


@dataclass(frozen=True)
class Address:
    """Where a service listens.

    Attributes:
        host: Name or number of an interface. port: 0 for a free one.
        certificate, key: PEM files for TLS, both or none.
    """

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches that interface."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Quiet(uvicorn.Server):
    """A server that leaves the signals to its owner: uvicorn's way ends the process before its owner has cleaned up."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield


class Server:
    """A server on an open socket: :meth:`run` serves until :meth:`stop` is called, from any thread.

    Raises:
        ServiceError: The port is taken, the interface is not there, or the certificate cannot be read.
    """

    def __init__(self, address: Address) -> None:
        if (address.certificate is None) != (address.key is None):
            raise ServiceError("TLS needs both --certificate and --key.")
        for path in (address.certificate, address.key):
            if path is not None and not path.is_file():
                raise ServiceError(f"TLS was asked for, but there is no file {path}.")
        self.address = address
        if address.certificate is not None:
            _check_certificate(address.certificate, str(address.key))
        self._socket = _listening(address)
        self.port: int = self._socket.getsockname()[1]
        self._server: uvicorn.Server | None = None
        self._service: Service | None = None
        self.stopped = threading.Event()

    @property
    def url(self) -> str:
        """Where clients on this computer find it."""
        host = self.address.host
        shown = (
            "127.0.0.1"
            if host in ("0.0.0.0", "")
            else "[::1]"
            if host == "::"
            else f"[{host}]"
            if ":" in host
            else host
        )
        return f"{'https' if self.address.certificate else 'http'}://{shown}:{self.port}"

    @property
    def ready(self) -> bool:
        """Whether it answers."""
        return self._server is not None and self._server.started

    def run(self, app: FastAPI) -> None:
        """Serve until :meth:`stop`.

        Raises:
            ServiceError: The certificate cannot be used.
        """
        try:
            config = uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                lifespan="off",
                proxy_headers=False,  # an address in a header must not pass for a client's
                limit_concurrency=MOST_CONNECTIONS,
                timeout_keep_alive=75,
                timeout_graceful_shutdown=GRACE_S,
                h11_max_incomplete_event_size=65_536,
                ssl_certfile=self.address.certificate,
                ssl_keyfile=None if self.address.key is None else str(self.address.key),
            )
            config.load()
        except (OSError, ValueError) as error:
            self._socket.close()
            raise ServiceError(f"TLS cannot be used with {self.address.certificate}: {error}.") from error
        self._server, self._service = _Quiet(config), getattr(app.state, "service", None)
        try:
            if not self.stopped.is_set():
                self._server.run(sockets=[self._socket])
        finally:
            self._socket.close()

    def stop(self) -> None:
        """End :meth:`run` soon."""
        self.stopped.set()
        if self._service is not None:
            self._service.ending = True  # answers that are held back go out
        if self._server is not None:
            self._server.should_exit = True


def _check_certificate(certificate: Path, key: str) -> None:
    """See that a certificate can be used, before anybody is told that the service is there."""

    def asked() -> str:  # else OpenSSL asks at the terminal, and waits
        raise ServiceError(
            f"The key {key} has a password. Serve with a copy without one: openssl pkey -in {key} -out KEY.pem"
        )

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, asked)
    except (OSError, ValueError) as error:
        raise ServiceError(f"TLS cannot be used with {certificate} and {key}: {error}.") from error


def _listening(address: Address) -> socket.socket:
    try:
        family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family[0], socket.SOCK_STREAM)
    except (OSError, OverflowError) as error:
        raise ServiceError(f"Serving on {address.host!r} is not possible: {error}. Choose another --host.") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(
            socket.IPPROTO_TCP, socket.TCP_NODELAY, 1
        )  # what is accepted inherits it: 48 ms less a request
        listening.bind(family[4])
        listening.listen(512)
        listening.setblocking(False)
    except (OSError, OverflowError) as error:
        listening.close()
        raise ServiceError(
            f"Serving on {address.host}:{address.port} is not possible: {error}. Choose another --port (0: a free one)."
        ) from None
    return listening


@contextlib.contextmanager
def running(make: Callable[[Server], FastAPI], address: Address | None = None) -> Iterator[Server]:
    """Serve in a thread of this process as long as the block lasts: for notebooks and tests.

    Args:
        make: Makes the application, once the server's URL is known.
        address: Where to listen; None: a free port of this computer alone.
    """
    server = Server(address or Address())
    app = make(server)
    thread = threading.Thread(target=server.run, args=(app,), name="howdah-http", daemon=True)
    thread.start()
    try:
        until = time.monotonic() + START_S
        while not server.ready and thread.is_alive() and time.monotonic() < until:
            time.sleep(0.005)
        if not server.ready:
            raise ServiceError(f"The service at {server.url} did not start within {START_S:g} s.")
        yield server
    finally:
        server.stop()
        thread.join(GRACE_S + 10)
