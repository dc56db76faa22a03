"""Who may ask the service, how often, and how much at once.

Everything but the login page needs the token: in the header ``Authorization: Bearer TOKEN``, or in the cookie that the login page sets.
Comparisons take the same time wherever two texts differ. A form of the web page carries a second token, which another site cannot know.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie

from howdah.errors import ServiceError

__all__ = ["Guard", "Limits", "Rate", "Refused", "new_token"]

LEAST_TOKEN = 16
MOST_ADDRESSES = 4096


class Refused(ServiceError):
    """A request is answered with a sentence and an HTTP status."""

    def __init__(self, sentence: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status, self.headers = status, dict(headers or {})


@dataclass(frozen=True)
class Limits:
    """How much a client may ask for.

    Attributes:
        body: Bytes of a JSON request.
        upload: Bytes of one upload.
        spare_disk: Bytes that stay free on the disk after an upload.
        queued: Jobs that wait at a time.
        per_second: Requests a second of one address, on average. burst: Requests at once.
        wrong_tokens: Wrong tokens a minute of one address; then it waits, and right ones still pass.
        wait_s: Longest time for which an answer is held back (``?wait=``). waiting: Answers held back at a time.
        silence_s: Longest time without a byte in the middle of an upload.
        keep_uploads_s: How long an upload is kept that no job uses.
        keep_jobs_s: How long a job that is over is kept, with the results in its own folder; None: for ever.
    """

    body: int = 4 << 20
    upload: int = 64 << 30
    spare_disk: int = 256 << 20
    queued: int = 10_000
    per_second: float = 1000.0
    burst: int = 5000
    wrong_tokens: int = 20
    wait_s: float = 60.0
    waiting: int = 128
    silence_s: float = 60.0
    keep_uploads_s: float = 7 * 86_400.0
    keep_jobs_s: float | None = None


def new_token() -> str:
    """Return a fresh token: 256 bits, letters that need no quoting."""
    return secrets.token_urlsafe(32)


class Guard:
    """Knows the token.

    Raises:
        ServiceError: The token is too short, or holds letters that an HTTP header cannot carry.
    """

    def __init__(self, token: str) -> None:
        if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
            raise ServiceError(
                f"The token must have at least {LEAST_TOKEN} ASCII letters and no spaces. Leave it out: a good one is made."
            )
        self._digest = _digest(token)
        self._key = token.encode()
        self.cookie = f"howdah-{self._derived('name')[:8]}"  # cookies know no ports: two services must not share one
        self.session = self._derived("session")
        self.form = self._derived("form")

    def _derived(self, what: str) -> str:
        return hmac.new(self._key, f"howdah {what}".encode(), hashlib.sha256).hexdigest()

    def knows(self, token: str) -> bool:
        """Whether this is the token."""
        return hmac.compare_digest(_digest(token), self._digest)

    def admits(self, authorization: str, cookies: str) -> bool:
        """Whether one of two headers of a request shows the token, or the cookie of the page."""
        scheme, _, token = authorization.partition(" ")
        if authorization:
            return scheme.lower() == "bearer" and self.knows(token.strip())
        return hmac.compare_digest(_digest(_cookie(cookies, self.cookie)), _digest(self.session))

    def check_form(self, token: str) -> None:
        """Refuse a form that does not come from our own page.

        Raises:
            Refused: 403.
        """
        if not hmac.compare_digest(_digest(token), _digest(self.form)):
            raise Refused("This form does not come from Howdah's own page. Load the page again and repeat.", 403)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found is not None else ""


class Rate:
    """A bucket of permits for each address: filled steadily, emptied by requests."""

    def __init__(self, per_second: float, burst: int) -> None:
        self.per_second, self.burst = per_second, burst
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def allows(self, address: str, now: float | None = None) -> bool:
        """Take one permit; False where there is none."""
        moment = time.monotonic() if now is None else now
        left, last = self._buckets.pop(address, (float(self.burst), moment))
        left = min(self.burst, left + (moment - last) * self.per_second)
        allowed = left >= 1
        self._buckets[address] = (left - allowed, moment)
        if len(self._buckets) > MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        return allowed
