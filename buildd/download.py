"""Fetch a file by HTTP, blocking; and how another thread breaks it off."""

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from typing import Final
from urllib.parse import SplitResult, urlsplit

import requests
from requests.auth import HTTPBasicAuth
from urllib3.exceptions import HTTPError, LocationParseError, ReadTimeoutError

PIECE_BYTES: Final = 1 << 20
KEPT_S: Final = 30.0  # For so long a connection is kept, of which nothing is heard.
# Without any part of it: what looks like a port or a host can be the half of a password that holds a "/" or a "#".
_MALFORMED: Final = "the URL is malformed; what is special in a password in it must be percent-encoded"


class DownloadError(Exception):
    """A file could not be fetched; the message says why in one sentence, without passwords."""


@dataclass(frozen=True)
class Limits:
    """How long a download may wait for the other side. For an end to all of it there is Cut."""

    connect_s: float
    stall_s: float  # Without a single byte.


@dataclass(frozen=True)
class Source:
    """Where a file is."""

    url: str
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @property
    def host(self) -> str:
        """Host and port, for messages."""
        return _split(self.url).netloc.rpartition("@")[2]

    def check(self) -> None:
        """:raises DownloadError: it is no URL that we fetch."""
        parts = _split(self.url)
        if parts.scheme.lower() not in ("http", "https"):
            raise DownloadError(f"only http and https URLs are fetched, not {parts.scheme[:20]!r}")
        if not parts.hostname:
            raise DownloadError("the URL names no host")

    def authorization(self) -> HTTPBasicAuth | None:
        """Credentials to send with the first request; they are UTF-8, where requests would take Latin-1."""
        if self.username or self.password:
            return HTTPBasicAuth(self.username.encode(), self.password.encode())
        return None


def _split(url: str) -> SplitResult:
    """:raises DownloadError: it is no URL at all."""
    if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise DownloadError("the URL has characters that no URL has")
    try:
        parts = urlsplit(url)
        _ = parts.port  # Parsed only now.
    except ValueError:
        raise DownloadError(_MALFORMED) from None  # Which would show a part of it.
    if "@" in parts.fragment:  # Nobody asks for a part of a file, so what was before it was no host.
        raise DownloadError(_MALFORMED)
    return parts


class Cut:
    """Breaks a download off, whatever it is waiting for, as soon as it has a connection."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why it was broken off; empty when it was not."""
        return self._reason

    def cut(self, reason: str) -> None:
        """Break it off. May be called from any thread, and at any time."""
        with self._lock:
            self._reason = self._reason or reason
            self._shut()

    def watch(self, response: requests.Response) -> None:
        """Know the connection that is to be shut down: a thread that waits for a byte notices nothing else."""
        with self._lock:
            # A connection that has been read to its end already has none.
            with contextlib.suppress(OSError, ValueError, AttributeError):
                self._socket = socket.socket(fileno=os.dup(response.raw.fileno()))
            if self._reason:
                self._shut()

    def close(self) -> None:
        with self._lock:
            if self._socket:
                self._socket.close()
            self._socket = None

    def _shut(self) -> None:
        if self._socket:
            with contextlib.suppress(OSError):  # The other side was quicker.
                self._socket.shutdown(socket.SHUT_RDWR)


def download(source: Source, limits: Limits, take: Callable[[bytes], None], cut: Cut) -> None:
    """Fetch a file, handing its raw content (no content-encoding undone) to `take` in pieces.

    Redirects are not followed. Proxies and passwords that the environment configures are not used, nor are cookies. A
    connection over which all has come is kept for the next download of this thread.

    :raises DownloadError: it could not be fetched; `take` may have had a part of it.
    :raises OSError: from `take`.
    """
    source.check()
    kept = _kept.take()
    session = kept or _new_session()
    try:
        try:
            response = _open(session, source, limits)
        except _NoAnswer:
            if kept is None:
                raise
            kept.close()  # The other side may have closed its connection at this very moment.
            session = _new_session()
            response = _open(session, source, limits)
        with response:
            cut.watch(response)
            _receive(response, source, limits, take, cut)
    except BaseException:
        session.close()
        raise
    finally:
        cut.close()
    _kept.put(session)


class _Kept(threading.local):
    """What a thread has kept: requests does not say that several may share a session."""

    def __init__(self) -> None:
        self._session: requests.Session | None = None
        self._since = 0.0

    def put(self, session: requests.Session) -> None:
        self._session, self._since = session, time.monotonic()

    def take(self) -> requests.Session | None:
        """The session, unless it is so old that something on the way may have forgotten its connections."""
        session, self._session = self._session, None
        if session is not None and time.monotonic() - self._since > KEPT_S:
            session.close()
            return None
        return session


_kept = _Kept()


class _NoAnswer(DownloadError):
    """Nothing came back but the end of the connection, if there was one."""


def _new_session() -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))
    return session


def _open(session: requests.Session, source: Source, limits: Limits) -> requests.Response:
    """Ask for the file, and see that it is coming.

    :raises _NoAnswer: neither that, nor anything else.
    """
    try:
        response = session.get(
            source.url,
            auth=source.authorization(),
            headers={"Accept-Encoding": "identity", "User-Agent": "debfarm-buildd"},
            timeout=(limits.connect_s, limits.stall_s),
            allow_redirects=False,
            verify=True,
            stream=True,
        )
    except requests.ConnectTimeout as exc:
        raise DownloadError(f"{source.host} cannot be connected to within {limits.connect_s:g} s") from exc
    except requests.Timeout as exc:
        raise DownloadError(f"{source.host} sent nothing for {limits.stall_s:g} s") from exc
    except (requests.exceptions.InvalidURL, LocationParseError):
        raise DownloadError(_MALFORMED) from None
    # requests lets some of what urllib3 raises through, and UnicodeError for a host name that cannot be one.
    except (requests.RequestException, HTTPError, UnicodeError) as exc:
        raise _NoAnswer(f"{source.host}: {_root_cause(exc)}") from exc
    if response.status_code == requests.codes.ok:
        return response
    response.close()
    if response.is_redirect or 300 <= response.status_code < 400:
        raise DownloadError(f"{source.host} answered {response.status_code}, and redirects are not followed")
    raise DownloadError(f"{source.host} answered {response.status_code} {_shown(response.reason)}".rstrip())


def _receive(
    response: requests.Response, source: Source, limits: Limits, take: Callable[[bytes], None], cut: Cut
) -> None:
    """Take the body to its announced end."""
    announced = response.headers.get("Content-Length", "")
    received = 0
    while True:
        try:
            piece = response.raw.read(PIECE_BYTES, decode_content=False)
        except ReadTimeoutError as exc:
            raise DownloadError(cut.reason or f"{source.host} sent nothing for {limits.stall_s:g} s") from exc
        except (HTTPError, OSError, ValueError) as exc:  # ValueError: the connection was cut as it was being read.
            early = f"{source.host} ended after {received} bytes or a little more: {_root_cause(exc)}"
            raise DownloadError(cut.reason or early) from exc
        if cut.reason:
            raise DownloadError(cut.reason)
        if not piece:
            break
        received += len(piece)
        take(piece)
    if announced.isdigit() and received != int(announced):
        raise DownloadError(f"{source.host} ended after {received} of {announced} bytes")


def _root_cause(exc: BaseException) -> str:
    """What is at the bottom of an exception that libraries wrapped several times, as a short line."""
    for inner in (getattr(exc, "reason", None), *exc.args, exc.__cause__):
        if isinstance(inner, BaseException):
            return _root_cause(inner)
    if isinstance(exc, OSError) and exc.strerror:
        return str(exc.strerror)
    return _shown(str(exc) or type(exc).__name__)


def _shown(text: str | None) -> str:
    """Text from outside as a message shows it: printable, and short."""
    return "".join(character if character.isprintable() else "?" for character in (text or "")[:200])
