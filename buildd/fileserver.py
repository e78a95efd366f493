"""/filecache over HTTP: files of the cache by SHA-1, and the log of the build. There is no listing."""

from pathlib import Path
from typing import IO, Any, Final

from twisted.web import http, static
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource

from buildd.filecache import FileCache
from buildd.protocol import ProtocolError, parse_sha1

BUILDLOG: Final = b"buildlog"
# What the transport sends at once. Larger pieces cost more than they bring: it copies what it could not send.
_PIECE_BYTES: Final = 128 << 10


class FileCacheResource(Resource):
    """/filecache/SHA1 and /filecache/buildlog."""

    def __init__(self, cache: FileCache, log_path: Path) -> None:
        """:param log_path: where the log of the current or last build is, while there is one."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._cache = cache
        self._log_path = log_path

    def getChild(self, path: bytes, request: IRequest) -> Resource:
        if request.postpath:
            return Problem(http.NOT_FOUND, "Nothing is below a file.")
        if path == BUILDLOG:
            return self._buildlog()
        if not path:
            return Problem(http.FORBIDDEN, "There is no listing; ask for /filecache/SHA1.")
        try:
            sha1 = parse_sha1(path.decode("ascii", "backslashreplace"))
        except ProtocolError as exc:
            return Problem(http.BAD_REQUEST, f"{exc}.")
        if sha1 not in self._cache:
            return Problem(http.NOT_FOUND, f"{sha1} is not here.")
        return PlainFile(self._cache.path(sha1), "application/octet-stream", etag=f'"{sha1}"'.encode())

    def render(self, request: IRequest) -> bytes:
        return Problem(http.FORBIDDEN, "There is no listing; ask for /filecache/SHA1.").render(request)

    def _buildlog(self) -> Resource:
        if not self._log_path.is_file():
            return Problem(http.NOT_FOUND, "There is no build, so there is no log.")
        return PlainFile(self._log_path, "text/plain; charset=utf-8", grows=True)


class PlainFile(static.File):
    """A file, or a range of it; not a directory of them. It may be removed, or grow, while it is sent."""

    def __init__(self, path: Path, content_type: str, *, etag: bytes = b"", grows: bool = False) -> None:
        """:param etag: of content that never changes; quoted."""
        super().__init__(str(path), defaultType=content_type)
        self.type = content_type
        self.encoding = None
        self._etag = etag
        self._grows = grows

    def getChild(self, path: bytes, request: IRequest) -> Resource:
        return Problem(http.NOT_FOUND, "Nothing is below a file.")

    def render_GET(self, request: Any) -> Any:
        request.setHeader(b"x-content-type-options", b"nosniff")
        if self._grows:  # Its time says too little: within a second it can grow more than once.
            request.requestHeaders.removeHeader(b"if-modified-since")
        # Several ranges in one request: the base class answers some of them with nothing (it reads a negative number of
        # bytes where a boundary fills its buffer). The whole file is an answer that is always right (RFC 9110, 14.2).
        if b"," in (request.getHeader(b"range") or b""):
            request.requestHeaders.removeHeader(b"range")
        # The caller has a part of another file: it must not get a range of this one (RFC 9110, 13.1.5).
        if (known := request.getHeader(b"if-range")) is not None and (not self._etag or known.strip() != self._etag):
            request.requestHeaders.removeHeader(b"range")
        if self._etag and request.setETag(self._etag) is http.CACHED:
            return b""
        try:
            return super().render_GET(request)  # type: ignore[no-untyped-call]
        except FileNotFoundError:  # Removed since it was looked up.
            return Problem(http.NOT_FOUND, "It is not here any more.").render(request)

    render_HEAD = render_GET

    def makeProducer(self, request: Any, fileForReading: IO[bytes]) -> Any:
        """As the base class does, but whole files end where they ended when their length was announced."""
        producer = super().makeProducer(request, fileForReading)  # type: ignore[no-untyped-call]
        if isinstance(producer, static.SingleRangeStaticProducer):
            return Span(request, fileForReading, producer.offset, producer.size)
        size = self.getFileSize()  # type: ignore[no-untyped-call]
        return Span(request, fileForReading, 0, size)


class Span:
    """A pull producer that sends a part of a file."""

    def __init__(self, request: Any, file: IO[bytes], offset: int, size: int) -> None:
        self._request = request
        self._file = file
        self._offset = offset
        self._left = size

    def start(self) -> None:
        self._file.seek(self._offset)
        self._request.registerProducer(self, False)

    def resumeProducing(self) -> None:
        if self._request is None:
            return
        data = self._file.read(min(_PIECE_BYTES, self._left))
        self._left -= len(data)
        request = self._request
        if data:
            request.write(data)
        if self._left and not data:  # It was cut short: the reader must not take what it has for the whole.
            self.stopProducing()
            request.unregisterProducer()
            request.loseConnection()
        elif not self._left and self._request is not None:
            self.stopProducing()
            request.unregisterProducer()
            request.finish()

    def stopProducing(self) -> None:
        self._file.close()
        self._request = None


class Problem(Resource):
    """An answer that something is wrong, as one line of plain text."""

    isLeaf = True

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._code = code
        self._sentence = sentence

    def render(self, request: Any) -> bytes:
        request.setResponseCode(self._code)
        request.setHeader(b"content-type", b"text/plain; charset=utf-8")
        body = f"{self._sentence}\n".encode()
        request.setHeader(b"content-length", b"%d" % len(body))
        return b"" if request.method == b"HEAD" else body
