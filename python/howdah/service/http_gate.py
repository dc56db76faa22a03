"""What every request passes before a route sees it: name of the host, rate, token, and size of a small request."""

from __future__ import annotations

import logging
import time
from urllib.parse import quote

from fastapi.responses import RedirectResponse, Response
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from howdah.service.http_answers import problem
from howdah.service.http_service import Service
from howdah.service.security import Rate

__all__ = ["Gate"]

log = logging.getLogger(__name__)

OPEN = ("/login", "/icon.svg")  # pages that need no token
STREAMED = ("/api/arrays", "/api/files", "/api/tables")  # their routes look after the size
ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Gate:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, *, service: Service, hosts: tuple[str, ...] = ()) -> None:
        self.app, self.service, self.guard = app, service, service.guard
        self.limits = limits = service.limits
        self.hosts = frozenset(host.lower() for host in hosts)
        self.rate = Rate(limits.per_second, limits.burst)
        self.wrong = Rate(limits.wrong_tokens / 60, limits.wrong_tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send))
            return
        if scope["path"] in STREAMED and scope["method"] == "POST":
            await self.app(scope, receive, _with_headers(send))
            return
        await self.app(scope, self._bounded(receive), _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        address = str((scope.get("client") or ("unknown", 0))[0])
        if self.hosts and _host(headers.get("host", "")) not in self.hosts:
            return problem(
                "This service is not known under that name. Use the address that `howdah serve` printed.", 421
            )
        if not self.rate.allows(address):
            return problem("Too many requests from this computer. Wait a second and repeat.", 429, {"Retry-After": "1"})
        if scope["path"] not in OPEN and not self.guard.admits(
            headers.get("authorization", ""), headers.get("cookie", "")
        ):
            return self._unknown(scope, headers, address)
        self.service.last_asked = time.monotonic()
        length = headers.get("content-length", "0")
        if scope["path"] not in STREAMED and (not length.isdigit() or int(length) > self.limits.body):
            return problem(self._too_large(), 413)
        return None

    def _unknown(self, scope: Scope, headers: Headers, address: str) -> Response:
        shown = bool(headers.get("authorization"))
        if shown and not self.wrong.allows(address):
            return problem("Too many wrong tokens from this computer. Wait a minute.", 429, {"Retry-After": "60"})
        if not shown and not scope["path"].startswith("/api") and "text/html" in headers.get("accept", ""):
            return RedirectResponse(f"/login?next={quote(scope['path'])}", 303)
        what = "The token is not the one of this service" if shown else "The token is missing"
        sentence = f"{what}. Send 'Authorization: Bearer TOKEN'; `howdah serve` printed it, or open the page's /login."
        return problem(sentence, 401, {"WWW-Authenticate": "Bearer"})

    def _too_large(self) -> str:
        return f"The request has more than {self.limits.body:,} bytes. Send images and tables as uploads."

    def _bounded(self, receive: Receive) -> Receive:
        """Count the bytes of a request that does not say its length."""
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limits.body:
                raise HTTPException(413, self._too_large())
            return message

        return counted


def _host(header: str) -> str:
    """Return the name in a ``Host`` header, without the port."""
    if header.startswith("["):
        return header.partition("]")[0].lstrip("[").lower()
    return header.rpartition(":")[0].lower() if ":" in header else header.lower()


def _with_headers(send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in ALWAYS.items():
                headers.setdefault(name, value)
        await send(message)

    return sending
