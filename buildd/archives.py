"""Has anything changed in the archives since a layer was made of them? Asked by the daemon itself, in milliseconds.

After `apt-get update` the root tells what apt has of each archive's release file (TELL, `parse`). Later each archive is
asked for the same file on the condition that it is another one (`ArchiveWatch.changed`), as apt asks. A release file
has the digests of all the rest, so nothing else need be looked at.

Only Changed.NO is relied upon. It takes for granted what apt does: that an archive with the same release file has the
same indexes. One that changes Packages and not InRelease is broken, and apt would complain of it, if it had to fetch
them. It takes nothing for granted that apt does of times: an archive may publish twice in a second.
Acquire::Max-ValidTime and the valid-until options of a source are not looked at: with them apt may refuse lists sooner
than is noticed here, but not find new ones.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from email.utils import formatdate, parsedate_to_datetime
from enum import StrEnum
from functools import cache
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults

from buildd.proxy import Upstream
from buildd.reach import Reach, Refused, Target, parse_url, shown

_COMPLETE: Final = "debfarm: that was all"
TOLD_MAX: Final = 4 << 20  # Characters that a root may tell.
_RELEASES_MAX: Final = 100  # In one sources.list; more are asked by apt.
_RELEASE_BYTES_MAX: Final = 32 << 20
_IN_RELEASE: Final = "InRelease"
# An archive whose file was younger than that when it was fetched may have another of the same time: dates have seconds,
# and clocks differ (RFC 9110, 8.8.2.2).
_WEAK_S: Final = 60
_ABSENT: Final = frozenset((403, 404, 410))  # What makes apt ask for Release instead of InRelease.

# Prints what `parse` takes: the URLs that apt would ask first, with the names of their files, then which release files
# are there. The URLs come from apt itself, so that every way to write a source is understood.
TELL: Final = (
    "sh",
    "-c",
    f"""set -eu
export LC_ALL=C
apt-get -q update --print-uris
cd /var/lib/apt/lists
for file in *Release; do
    [ -f "$file" ] || continue
    printf 'file %s %s %s %s\\n' "$file" "$(stat -c '%Y %Z' "$file")" "$(sha256sum <"$file" | cut -c 1-64)" \
        "$(sed -n '/^Valid-Until:/{{s/^[^:]*: *//p;q}}' "$file")"
done
echo '{_COMPLETE}'
""",
)
_URI = re.compile(r"'(\S+)' (\S+) \d{1,20}(?: \S*)? *", re.ASCII)
_FILE = re.compile(r"file (\S+) (\d{1,12}) (\d{1,12}) ([0-9a-f]{64}) ([ -~]{0,100})", re.ASCII)
_AUTH = re.compile(r"machine (\S+) login (\S+)(?: password (\S+))?")


class Changed(StrEnum):
    """What `apt-get update` would find, compared with a Snapshot."""

    NO = "no"  # All as it was.
    YES = "yes"  # Another release file, for certain: what apt has of it is of no use.
    UNKNOWN = "unknown"  # An archive does not say, or cannot be asked: apt has to.


class UnknownArchives(Exception):
    """The root's apt did not say what its archives are; the message says what is wrong with its words."""


@dataclass(frozen=True)
class Release:
    """What apt has of one release file."""

    url: str  # Of the InRelease, or of the Release where there is no InRelease.
    sha256: str
    modified: int | None  # When it was, as the archive said: seconds since the epoch. None: that is no way to know it.
    valid_until: int | None  # Likewise; None: for ever.


@dataclass(frozen=True)
class Snapshot:
    """What apt has of all its archives. Of none at all: nothing is known, so it has always changed since."""

    releases: tuple[Release, ...] = ()

    @property
    def state(self) -> str:
        """A digest of all that the archives have, by their release files; nothing, when nothing is known."""
        files = json.dumps(sorted((release.url, release.sha256) for release in self.releases))
        return hashlib.sha256(files.encode()).hexdigest() if self.releases else ""

    @property
    def is_dated(self) -> bool:
        """Whether apt, which asks by date, would notice every change."""
        return all(release.modified is not None for release in self.releases)

    def to_json(self) -> str:
        """For a layer's note."""
        return json.dumps([asdict(release) for release in self.releases])

    @classmethod
    def from_json(cls, text: str) -> "Snapshot":
        """From a layer's note; an empty one, when that is of another version."""
        try:
            return cls(tuple(Release(**item) for item in json.loads(text)))
        except (ValueError, TypeError):
            return cls()


def parse(told: str, reach: Reach) -> Snapshot:
    """What the root told by TELL; an empty Snapshot when one of its archives cannot be asked.

    That is an archive without a release file, and one by another method than http and https.

    Megabytes take a while: call it in a thread.

    :param reach: the build's archives; the root may name no other.
    :raises UnknownArchives: the root's words are not TELL's, or name other archives.
    """
    if len(told) > TOLD_MAX:
        raise UnknownArchives(f"the root tells more than {TOLD_MAX} characters of its archives")
    *lines, last = told.removesuffix("\n").split("\n")
    if last != _COMPLETE:
        raise UnknownArchives(f"the root does not tell all of its archives, but ends with {shown(last)!r}")
    wanted: dict[str, str] = {}  # The file of each InRelease, and its URL.
    files: dict[str, re.Match[str]] = {}
    for line in lines:
        if (uri := _URI.fullmatch(line)) is not None:
            if uri[1].endswith(f"/{_IN_RELEASE}"):
                wanted[uri[2]] = uri[1]
        elif (file := _FILE.fullmatch(line)) is not None:
            files[file[1]] = file
        else:
            raise UnknownArchives(f"the root says {shown(line)!r} of its archives")
    if len(wanted) > _RELEASES_MAX:
        return Snapshot()
    found = [_release(name, url, files, reach) for name, url in wanted.items()]
    releases = tuple(release for release in found if release is not None)
    return Snapshot(releases if len(releases) == len(found) else ())


def _release(name: str, url: str, files: dict[str, re.Match[str]], reach: Reach) -> Release | None:
    """What is there of a release; None when it cannot be asked for.

    :param name: of the InRelease.
    """
    for kind in (_IN_RELEASE, "Release"):
        file = files.get(name.removesuffix(_IN_RELEASE) + kind)
        if file is None:
            continue
        try:
            target = parse_url(url.removesuffix(_IN_RELEASE) + kind)
        except Refused:
            return None
        try:
            reach.check_below(target)
            valid_until = int(parsedate_to_datetime(file[5]).timestamp()) if file[5] else None
        except Refused as exc:
            raise UnknownArchives(f"the root has lists of another archive: {exc}") from exc
        except ValueError:
            return None
        modified, fetched = int(file[2]), int(file[3])
        return Release(target.url, file[4], modified if fetched - modified >= _WEAK_S else None, valid_until)
    return None


@dataclass(frozen=True)
class Waiting:
    """How long archives have to answer."""

    step_s: float = 3.0  # To connect, and between two pieces.
    total_s: float = 5.0


class ArchiveWatch:
    """Asks archives whether they have changed."""

    def __init__(self, reactor: Any, upstream: str = "", waiting: Waiting | None = None) -> None:
        """:param upstream: the URL of the http proxy by which archives are to be asked; empty: none."""
        self._reactor = reactor
        self._upstream = Upstream.parse(upstream) if upstream else None
        self._waiting = waiting or Waiting()

    async def changed(self, snapshot: Snapshot, auth_conf: str, now: float) -> Changed:
        """What `apt-get update` would find. Nothing is raised: who cannot be asked is unknown.

        :param auth_conf: the credentials, as apt.split_credentials gives them.
        :param now: seconds since the epoch.
        """
        releases = snapshot.releases
        if not releases or any(release.valid_until is not None and release.valid_until <= now for release in releases):
            return Changed.UNKNOWN
        answers = await gatherResults([self._ask(release, auth_conf) for release in releases])
        return next((word for word in (Changed.YES, Changed.UNKNOWN) if word in answers), Changed.NO)

    def _ask(self, release: Release, auth_conf: str) -> Deferred[Changed]:
        """Whether a release file is another now.

        In a thread of its own: an archive that trickles must not hold one that others wait for.
        """
        question = _Question(release, parse_url(release.url), self._upstream, auth_conf, self._waiting.step_s)
        answer: Deferred[Changed] = Deferred()

        def settle(changed: Changed) -> None:
            if not answer.called:
                late.cancel()
                answer.callback(changed)

        def give_up() -> None:
            question.cut()
            answer.callback(Changed.UNKNOWN)

        def run() -> None:
            self._reactor.callFromThread(settle, question.changed())

        late = self._reactor.callLater(self._waiting.total_s, give_up)
        threading.Thread(target=run, name="archive-watch", daemon=True).start()
        return answer


class _Question:
    """One question to one archive; blocks."""

    def __init__(
        self, release: Release, target: Target, upstream: Upstream | None, auth_conf: str, step_s: float
    ) -> None:
        self._release = release
        self._target = target
        self._upstream = upstream
        self._headers = {"Cache-Control": "max-age=0", "User-Agent": "debfarm-buildd"}  # As apt has it.
        if authorization := _authorization(target, auth_conf):
            self._headers["Authorization"] = authorization
        self._step_s = step_s
        self._connection: http.client.HTTPConnection | None = None
        self._cut = False

    def changed(self) -> Changed:
        """Whether the archive has another file. Nothing is raised: of who cannot be asked it is unknown."""
        kept, modified = self._target.url, self._release.modified
        condition = {} if modified is None else {"If-Modified-Since": formatdate(modified, usegmt=True)}
        try:
            if not kept.endswith(f"/{_IN_RELEASE}"):
                with self._get(kept.removesuffix("Release") + _IN_RELEASE, {}) as answer:
                    if answer.status not in _ABSENT:
                        return Changed.YES if answer.status == 200 else Changed.UNKNOWN
            with self._get(kept, condition) as answer:
                if answer.status == 304 and condition:
                    return Changed.NO
                return self._compared(answer) if answer.status == 200 else Changed.UNKNOWN
        # ssl.SSLError is an OSError, UnicodeError a ValueError.
        except (OSError, http.client.HTTPException, ValueError):
            return Changed.UNKNOWN

    def cut(self) -> None:
        """End it, from another thread."""
        self._cut = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with contextlib.suppress(OSError):  # It is over already.
                connection.sock.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def _get(self, url: str, condition: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        """The answer to a GET. No redirect is followed."""
        by_proxy = self._upstream is not None and self._target.scheme == "http"
        path = url if by_proxy else "/" + url.split("/", 3)[3]
        with contextlib.closing(self._connect()) as connection:
            self._connection = connection
            connection.connect()
            if self._cut:  # While there was no socket that could be shut.
                raise TimeoutError
            connection.request("GET", path, headers=self._headers | condition | self._to_proxy(by_proxy))
            with connection.getresponse() as answer:
                yield answer

    def _connect(self) -> http.client.HTTPConnection:
        target, proxy = self._target, self._upstream
        host, port = (target.host, target.port) if proxy is None else (proxy.host, proxy.port)
        if target.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._step_s)
        connection = http.client.HTTPSConnection(host, port, timeout=self._step_s, context=_tls())
        if proxy is not None:
            connection.set_tunnel(target.host, target.port, self._to_proxy(True))
        return connection

    def _to_proxy(self, asked: bool) -> dict[str, str]:
        if not asked or self._upstream is None or not self._upstream.authorization:
            return {}
        return {"Proxy-Authorization": self._upstream.authorization.decode()}

    def _compared(self, answer: http.client.HTTPResponse) -> Changed:
        digest, length = hashlib.sha256(), 0
        while piece := answer.read(1 << 16):
            length += len(piece)
            if length > _RELEASE_BYTES_MAX or self._cut:
                return Changed.UNKNOWN
            digest.update(piece)
        if answer.length:  # It broke off.
            return Changed.UNKNOWN
        return Changed.NO if digest.hexdigest() == self._release.sha256 else Changed.YES


@cache
def _tls() -> ssl.SSLContext:
    """With the host's certificate authorities, which are those of apt; it takes 20 ms to read them."""
    return ssl.create_default_context()


def _authorization(target: Target, auth_conf: str) -> str:
    """The header for an archive that asks for a password; empty for others."""
    for line in auth_conf.splitlines():
        if (entry := _AUTH.fullmatch(line)) is None:
            continue
        with contextlib.suppress(Refused):
            if target.url.startswith(parse_url(entry[1]).url):
                pair = f"{entry[2]}:{entry[3] or ''}"
                return f"Basic {base64.b64encode(pair.encode()).decode()}"
    return ""
