"""Fetching a file of weights: resumed after a cut, checked by its SHA-256, in its place only when it is whole."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bdv_io.errors import WriteError
from bdv_io.safe_write import replacing
from howdah import __version__
from howdah.errors import WeightsError
from howdah.progress import Progress, Steps

__all__ = ["cache_folder", "download", "sha256_of"]

FOLDER = "HOWDAH_WEIGHTS"
BLOCK = 1 << 18
LARGEST = 4 << 30  # bytes; no network of ours comes near
TRIES = 5
SCHEMES = ("http", "https")
CUT = (http.client.HTTPException, TimeoutError, ConnectionError)
LATER = (408, 425, 429, 500, 502, 503, 504)  # answers after which trying again helps


def cache_folder() -> Path:
    """Return where downloaded weights are kept: the folder that ``HOWDAH_WEIGHTS`` names, else one of the user's caches."""
    named = os.environ.get(FOLDER)
    if named:
        return Path(named).expanduser()
    base = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    return Path(base or Path.home() / ".cache") / "howdah" / "weights"


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def download(
    address: str, target: Path, *, sha256: str, pause_s: float = 1.0, timeout_s: float = 30.0, tries: int = TRIES
) -> Steps[Path]:
    """Fetch a file; yields :class:`Progress` in MiB and returns where it lies.

    What came before a cut is kept as ``name.part`` and resumed from, in this call and by the next one.

    Args:
        address: Where it lies: http or https.
        target: Where to put it; its folder is made. A file that stands there and has the checksum is returned at once.
        sha256: The first digits of its SHA-256, or all of them.
        pause_s: How long to wait before the second try; twice as long before each further one.
        timeout_s: How long the server may be silent.
        tries: How often to try where the connection is cut or the server is busy; a try that brought something does not count.

    Raises:
        WeightsError: The address cannot be reached or has no such file, or what came has another checksum.
        BusyError: Another Howdah is fetching the same file.
        WriteError: The disk is full, or the folder may not be written to.
    """
    if urlsplit(address).scheme not in SCHEMES:
        raise WeightsError(f"Downloading {address} is not possible: the address begins with neither https nor http.")
    if target.is_file() and _fits(target, sha256):
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WriteError(f"Making the folder {target.parent} for downloaded weights failed: {error}.") from error
    part = target.with_name(f"{target.name}.part")
    with replacing(target, keep_previous=False) as temporary:
        began = part.stat().st_size if part.is_file() else 0
        yield from _fetch(address, part, pause_s=pause_s, timeout_s=timeout_s, tries=tries)
        if began and not _fits(part, sha256):  # the file may have changed between the two halves
            part.unlink()
            yield from _fetch(address, part, pause_s=pause_s, timeout_s=timeout_s, tries=tries)
        if not _fits(part, sha256):
            found, size = sha256_of(part), part.stat().st_size
            part.unlink()
            raise WeightsError(
                f"Downloading {address} failed: what came ({size} bytes) has the SHA-256 {found[:16]}..., expected {sha256}...; it was "
                "thrown away. Try again, or fetch the file by hand."
            )
        os.replace(part, temporary)
    return target


def _fits(path: Path, sha256: str) -> bool:
    return sha256_of(path).startswith(sha256.lower())


def _fetch(address: str, part: Path, *, pause_s: float, timeout_s: float, tries: int) -> Steps[None]:
    """Append to a file until it is whole; wait and try again where that helps."""
    failed = 0
    while True:
        before = _size(part)
        try:
            yield from _append(address, part, timeout_s)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in LATER:
                raise WeightsError(
                    f"Downloading {address} failed: the server answered {error.code} ({error.reason})."
                ) from None
            reason = f"the server answered {error.code} ({error.reason})"
        except urllib.error.URLError as error:
            reason = str(error.reason)
        except CUT as error:
            reason = str(error) or type(error).__name__
        failed = 1 if _size(part) > before else failed + 1
        if failed >= tries:
            kept = f" {_size(part)} bytes came and are kept; the next try goes on from there." if _size(part) else ""
            raise WeightsError(f"Downloading {address} failed after {tries} tries: {reason}.{kept}")
        time.sleep(pause_s * 2 ** (failed - 1))


def _append(address: str, part: Path, timeout_s: float) -> Steps[None]:
    """Ask for the bytes after those that are there, and append them.

    Raises:
        http.client.IncompleteRead: The connection was cut.
    """
    have = _size(part)
    headers = {"User-Agent": f"howdah/{__version__}", "Accept-Encoding": "identity"}
    if have:
        headers["Range"] = f"bytes={have}-"
    request = urllib.request.Request(address, headers=headers)
    with _opened(request, timeout_s) as answer:
        if answer is None:  # nothing lies after what is there: it is whole, or too long
            return
        if have and not _goes_on(answer, have):
            have = 0
        length = answer.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        if (total or 0) > LARGEST:
            raise WeightsError(f"Downloading {address} was not started: {total} bytes are too many for weights.")
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            while block := answer.read(BLOCK):
                file.write(block)
                have += len(block)
                if have > LARGEST:
                    raise WeightsError(f"Downloading {address} was stopped: more than {LARGEST} bytes came.")
                yield _told(have, total or have, address)
            if total is not None and have < total:
                raise http.client.IncompleteRead(b"", total - have)


def _told(have: int, total: int, address: str) -> Progress:
    return Progress("download", have >> 20, max(total >> 20, 1), message=f"{address.rpartition('/')[2]}: {have} bytes")


@contextlib.contextmanager
def _opened(request: urllib.request.Request, timeout_s: float) -> Iterator[Any]:
    """Open an address; None where the server says that nothing lies so far in the file."""
    opener = urllib.request.build_opener(_Secure)
    try:
        answer = opener.open(request, timeout=timeout_s)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        error.close()
        yield None
        return
    with answer:
        yield answer


def _goes_on(answer: Any, have: int) -> bool:
    """Tell whether the answer begins where we left off; a server may also send the whole file again."""
    begins = str(answer.headers.get("Content-Range", ""))
    return bool(answer.status == 206) and begins.startswith(f"bytes {have}-")


class _Secure(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything else."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Return the request for the new address.

        Raises:
            WeightsError: It is less secure than the old one.
        """
        schemes = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if schemes[1] not in SCHEMES or schemes == ("https", "http"):
            raise WeightsError(f"Downloading {req.full_url} was stopped: the server sent us on to {newurl}.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
