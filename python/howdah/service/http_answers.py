"""Answers: JSON without surprises, errors as sentences, and files in parts."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from bdv_io import BdvIoError
from howdah.errors import HowdahError
from howdah.service.clean import plain
from howdah.service.security import Refused

__all__ = ["Json", "install_answers", "part_of_file", "problem"]

log = logging.getLogger(__name__)

BLOCK = 2 << 20
RANGE = re.compile(r"bytes=(?:(\d{1,18})-(\d{1,18})?|-(\d{1,18}))")


class Json(JSONResponse):
    """JSON in ASCII, without NaN: what any client can read."""

    def render(self, content: Any) -> bytes:
        """Return the bytes."""
        return json.dumps(plain(content), allow_nan=False, separators=(",", ":")).encode("ascii")


def problem(sentence: str, status: int, headers: Mapping[str, str] | None = None) -> Json:
    """Return the answer for an error."""
    return Json({"error": sentence}, status, headers=dict(headers or {}))


def install_answers(app: FastAPI) -> None:
    """Turn every error into ``{"error": "a sentence"}``."""

    async def howdah(request: Request, error: Exception) -> Response:
        if isinstance(error, Refused):
            return problem(str(error), error.status, error.headers)
        return problem(str(error), 400)

    async def wrong_request(request: Request, error: Exception) -> Response:
        problems = error.errors() if isinstance(error, RequestValidationError) else []
        said = "; ".join(f"{'.'.join(str(part) for part in p['loc'])}: {p['msg']}" for p in problems[:5])
        return problem(f"The request cannot be understood: {said}.", 422)

    async def http(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        sentences = {404: "There is nothing at this address.", 405: "This address does not take this kind of request."}
        headers = error.headers if isinstance(error, HTTPException) else None
        return problem(sentences.get(status, getattr(error, "detail", "The request was refused.")), status, headers)

    async def gone(request: Request, error: Exception) -> Response:
        log.info("A client went away in the middle of %s %s.", request.method, request.url.path)
        return problem("The connection was cut.", 400)

    async def fault(request: Request, error: Exception) -> Response:
        log.error("A fault in Howdah while answering %s %s", request.method, request.url.path, exc_info=error)
        return problem("A fault in Howdah; its log says more. Please report it.", 500)

    for kind in (HowdahError, BdvIoError):
        app.add_exception_handler(kind, howdah)
    app.add_exception_handler(RequestValidationError, wrong_request)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(ClientDisconnect, gone)
    app.add_exception_handler(Exception, fault)


def part_of_file(
    request: Request,
    path: Path,
    *,
    start: int = 0,
    count: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer with a file (``count`` bytes from ``start`` on), or with the part of it that the header ``Range`` asks for.

    Raises:
        Refused: 416 for a part that is not there.
    """
    try:
        state = path.stat()
    except OSError:
        raise Refused(f"The file {path.name} has gone.", 404) from None
    size = state.st_size - start if count is None else count
    tag = f'"{state.st_mtime_ns:x}-{state.st_size:x}-{start:x}"'
    more = {"Accept-Ranges": "bytes", "ETag": tag, "X-Content-Type-Options": "nosniff", **(headers or {})}
    first, last, status = 0, size - 1, 200
    asked = RANGE.fullmatch(request.headers.get("range", ""))
    if asked is not None and request.headers.get("if-range", tag) == tag:
        if asked[3] is not None:
            first = max(size - int(asked[3]), 0) if int(asked[3]) else size
        else:
            first, last = int(asked[1]), min(int(asked[2] or size), size - 1)
        if first >= size or (first > last and asked[2] is not None):
            raise Refused(
                f"The part asked for lies outside the {size:,} bytes.", 416, {"Content-Range": f"bytes */{size}"}
            )
        status, more["Content-Range"] = 206, f"bytes {first}-{last}/{size}"
    more["Content-Length"] = str(max(last - first + 1, 0))
    if request.method == "HEAD":
        return Response(status_code=status, headers=more, media_type="application/octet-stream")
    parts = _parts(path, start + first, last - first + 1)
    return StreamingResponse(parts, status, headers=more, media_type="application/octet-stream")


async def _parts(path: Path, at: int, count: int) -> AsyncIterator[bytes]:
    """Yield a part of a file, each block read in another thread."""
    with path.open("rb", buffering=0) as file:
        file.seek(at)
        while count > 0:
            block = await asyncio.to_thread(file.read, min(BLOCK, count))
            if not block:
                raise OSError(f"{path.name} ended before its end")
            count -= len(block)
            yield block
