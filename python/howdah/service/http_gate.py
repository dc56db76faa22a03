"""What every request passes before a route sees it: name of the host, rate, token, and size of a small request."""

from __future__ import annotations

import asyncio
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
# A browser sends the cookie to every port of this computer, and for pages that come from any of them: whoever serves one could read the
# cookie, or ask with it. So it lets people look, and press buttons that carry the form's own token; it never starts anything.
BY_TOKEN = "The cookie of the page lets you look. To ask for something, send 'Authorization: Bearer TOKEN'."
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
        await self.app(scope, self._bounded(receive, headers), _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        address = str((scope.get("client") or ("unknown", 0))[0])
        if self.hosts and _host(headers.get("host", "")) not in self.hosts:
            return problem(
                "This service is not known under that name. Use the address that `howdah serve` printed.", 421
            )
        if not self.rate.allows(address):
            return problem("Too many requests from this computer. Wait a second and repeat.", 429, {"Retry-After": "1"})
        shown = headers.get("authorization", "")
        if scope["path"] not in OPEN and not self.guard.admits(shown, headers.get("cookie", "")):
            return self._unknown(scope, headers, address)
        if not shown and scope["path"].startswith("/api") and scope["method"] not in ("GET", "HEAD"):
            return problem(BY_TOKEN, 403)
        self.service.last_asked = time.monotonic()
        length = headers.get("content-length", "0")
        fits = length.isascii() and length.isdigit() and len(length) < 19 and int(length) <= self.limits.body
        if scope["path"] not in STREAMED and not fits:
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

    def _bounded(self, receive: Receive, headers: Headers) -> Receive:
        """Count the bytes of a request, which may not say its length, and do not wait for them for ever."""
        seen, more = 0, headers.get("content-length", "0") != "0" or "transfer-encoding" in headers

        async def counted() -> Message:
            nonlocal seen, more
            try:  # once all has come, the next message is that the client has gone, whenever that is
                message = await asyncio.wait_for(receive(), self.limits.silence_s if more else None)
            except TimeoutError:
                raise HTTPException(408, f"No byte of the request came for {self.limits.silence_s:g} s.") from None
            more = bool(message.get("more_body", False))
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
