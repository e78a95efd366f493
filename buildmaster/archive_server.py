"""The archives that the farm publishes, over HTTP: for apt, and for builders. No listing, nothing outside the tree.

/DIST/ARCHIVE/dists/SUITE/...   /DIST/ARCHIVE/pool/...   /DIST/ARCHIVE/key.asc
/DIST/ARCHIVE/snapshot/TIME/...  the newest snapshot at or before any time
/DIST/ARCHIVE/                   what to write into sources.list
/DIST/ARCHIVE/buildinfo/...   /DIST/ARCHIVE/provenance/...   where packages come from; see attested.py
"""

import base64
import binascii
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from buildmaster import attested, credentials, offered
from buildmaster.apt_sources import Login
from buildmaster.archive_tree import NotThere, Opened, open_file, parse_path
from buildmaster.attesting import NoKey
from buildmaster.conditions import Answer, Asked, answer
from buildmaster.database import DatabaseLost
from buildmaster.farm import Farm
from buildmaster.offered import Published
from buildmaster.ports import IMasterReactor
from buildmaster.sending import CHUNK, OpenSite, Sending

_OF_ONE = 100  # Connections of one address.
_KNOWN_S = 1.0  # For so long it may be unknown that an archive is private now.
_FOR_EVER = "max-age=31536000, immutable"
_TYPES = {
    ".asc": "application/pgp-keys",
    ".deb": "application/vnd.debian.binary-package",
    ".gpg": "application/pgp-signature",
    ".gz": "application/gzip",
    ".json": "application/json",
    ".udeb": "application/vnd.debian.binary-package",
    ".xz": "application/x-xz",
    ".zst": "application/zstd",
    ".bz2": "application/x-bzip2",
    ".tar": "application/x-tar",
}
_TEXTS = {"", ".dsc", ".changes", ".buildinfo", ".diff", ".txt"}

_log = Logger()


def archive_site(
    farm: Farm,
    reactor: IMasterReactor,
    directory: Path,
    secret: str,
    url_for: Callable[[int], str],
    *,
    more: Mapping[bytes, Resource] | None = None,
) -> OpenSite:
    """A site with the archives that the farm publishes.

    :param directory: DIST/ARCHIVE are below it.
    :param secret: what passwords of builds are made of.
    :param url_for: where this server is, as apt lines have it, when it listens at a port.
    :param more: what else there is, by the first word of its path.
    """
    root = _Root(Tree(farm, reactor, directory, secret, url_for))
    for word, other in (more or {}).items():
        root.putChild(word, other)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4  # Each may have a file open as well.
    return OpenSite(root, most, _OF_ONE)


class _Root(Resource):
    """Whatever is nothing else is a path in the tree."""

    def __init__(self, tree: "Tree") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._tree = tree

    def getChild(self, path: bytes, request: Any) -> Resource:
        request.prepath.pop()
        request.postpath.insert(0, path)
        return self._tree


class _Refused(Exception):
    """A request is answered by a number and a word."""

    def __init__(self, code: int, word: str, **headers: str) -> None:
        super().__init__(word)
        self.code = code
        self.headers = headers


class Tree(Resource):
    """/DIST/ARCHIVE/..."""

    isLeaf = True

    def __init__(
        self, farm: Farm, reactor: IMasterReactor, directory: Path, secret: str, url_for: Callable[[int], str]
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._farm = farm
        self._reactor = reactor
        self._directory = directory
        self._secret = secret
        self._url_for = url_for
        self._known: dict[tuple[str, str], Published] = {}
        self._known_at = float("-inf")

    def render_GET(self, request: Any) -> int:
        Deferred.fromCoroutine(self._serve(request)).addErrback(_give_up, request)
        return NOT_DONE_YET

    async def _serve(self, request: Any) -> None:
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)
        try:
            await self._answer(request, gone)
        except (_Refused, NotThere) as refused:
            if not gone:
                _refuse(request, refused)

    async def _answer(self, request: Any, gone: list[Failure]) -> None:
        path = [each for each in request.postpath or [] if each]
        words = parse_path(path)
        if len(words) < 2:
            raise NotThere
        archive = await self._published(words[0], words[1])
        if archive.private and words[2:] != ["key.asc"]:
            await self._admit(request, archive, f"{words[0]}/{words[1]}")
        if len(words) == 2:
            await self._tell(request, archive, gone)
            return
        if words[2] in attested.FOLDERS:
            await self._attest(request, words, archive, gone)
            return
        begins, opened, told = await self._in_thread(self._open, words, _asked(request))
        with opened.stream:
            if not gone:
                _begin(request, words[2:], told, private=archive.private)
                if told.code == 304:
                    request.finish()
                else:
                    await Sending(request, opened.stream, self._reactor).send(told.length, begins)

    def _open(self, words: list[str], asked: Asked) -> tuple[bytes, Opened, Answer]:
        """A file, what to answer, and the first piece of that. Blocks."""
        opened = open_file(self._directory.joinpath(*words[:2]), words[2:], time.time())
        try:
            told = answer(opened.file, asked)
            opened.stream.seek(told.start)
            return opened.stream.read(min(told.length, CHUNK)), opened, told
        except BaseException:
            opened.stream.close()
            raise

    async def _in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await deferToThreadPool(self._reactor, self._reactor.getThreadPool(), function, *args)

    # Who may read

    async def _published(self, distribution: str, name: str) -> Published:
        """:raises NotThere: the farm publishes no such archive."""
        if self._reactor.seconds() - self._known_at > _KNOWN_S:
            self._known = await self._read(offered.every)
            self._known_at = self._reactor.seconds()
        if (distribution, name) not in self._known:
            raise NotThere
        return self._known[distribution, name]

    async def _admit(self, request: Any, archive: Published, realm: str) -> None:
        """:raises _Refused: who asks may not read a private archive."""
        login = _login(request.getHeader("authorization") or "")
        if login is None or not await self._read(credentials.may_read, archive.id, login, self._secret):
            challenge = f'Basic realm="{realm}", charset="UTF-8"'
            raise _Refused(401, "This archive is private: a user and a token are needed.", WWW_Authenticate=challenge)

    async def _read(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return await self._farm.read(function, *args)
        except DatabaseLost:
            raise _Refused(503, "The farm's database is away; try again.", Retry_After="5") from None

    async def _tell(self, request: Any, archive: Published, gone: list[Failure]) -> None:
        """What to write into sources.list."""
        suites = await self._read(offered.suites, archive.id)
        url = self._url_for(request.getHost().port)
        lines = [each.line(url, keyring=each.keyring) for each in suites]
        fetch = suites and f"# wget -O {suites[0].keyring} {url}/{suites[0].archive}/key.asc"
        text = "\n".join([fetch, *lines, ""]) if suites else "# Nothing is published here yet.\n"
        if not gone:
            request.setHeader(b"content-type", b"text/plain; charset=utf-8")
            _finish(request, text.encode())

    async def _attest(self, request: Any, words: Sequence[str], archive: Published, gone: list[Failure]) -> None:
        """Where packages come from: of the database, not of the tree."""
        try:
            served = await self._in_thread(attested.served, self._farm, *words[:2], words[2:])
        except (NoKey, DatabaseLost) as error:
            _log.warn("cannot serve {uri}: {error}", uri=request.uri, error=str(error))
            raise _Refused(503, "There is no such statement now; try again later.", Retry_After="60") from None
        if served is None:
            raise NotThere
        if not gone:
            request.setHeader(b"content-type", served.content_type.encode())
            request.setHeader(b"cache-control", b"private, no-cache" if archive.private else b"public, no-cache")
            _finish(request, served.content)


def _asked(request: Any) -> Asked:
    names = ("if-none-match", "if-modified-since", "range", "if-range")
    return Asked(*(request.getHeader(name) or "" for name in names))


def _begin(request: Any, path: Sequence[str], told: Answer, *, private: bool) -> None:
    request.setResponseCode(told.code)
    for name, value in told.headers.items():
        request.setHeader(name.lower().encode(), value.encode())
    # What has a digest in its path, and what is in the pool, is never another.
    lasts = "by-hash" in path or "pool" in path
    shared = "private" if private else "public"
    request.setHeader(b"cache-control", f"{shared}, {_FOR_EVER if lasts else 'no-cache'}".encode())
    if told.code in (200, 206):
        request.setHeader(b"content-type", _content_type(path[-1]).encode())


def _content_type(name: str) -> str:
    suffix = PurePosixPath(name).suffix
    if suffix in _TEXTS or name.startswith("Translation-"):
        return "text/plain; charset=utf-8"
    return _TYPES.get(suffix, "application/octet-stream")


def _login(header: str) -> Login | None:
    """Who a request says it is from (RFC 7617); None: it does not say so."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        return None
    return Login(user, password) if colon else None


def _refuse(request: Any, refused: "_Refused | NotThere") -> None:
    code, word, headers = 404, "There is no such file.", {}
    if isinstance(refused, _Refused):
        code, word, headers = refused.code, str(refused), refused.headers
    request.setResponseCode(code)
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    for name, value in headers.items():
        request.setHeader(name.replace("_", "-").lower().encode(), value.encode())
    _finish(request, f"{word}\n".encode())


def _finish(request: Any, content: bytes) -> None:
    request.setHeader(b"content-length", b"%d" % len(content))
    request.write(b"" if request.method == b"HEAD" else content)
    request.finish()


def _give_up(failure: Failure, request: Any) -> None:
    """The disk is broken, or the master is: whoever fetches sees a short answer, and comes again."""
    _log.failure("cannot serve {uri}", failure, uri=request.uri)
    request.loseConnection()
