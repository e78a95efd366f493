"""Uploads by HTTP: PUT /upload/DISTRIBUTION/ARCHIVE/FILE, as dput and dput-ng send it. Nothing else; nothing is listed.

A body goes to the spool as it comes. What is wrong is told in the answer's reason phrase too, of which dput shows
nothing else.
"""

from io import BytesIO
from typing import Any
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from buildmaster.uploading.reception import NoSuchPlace, NotNow, Outcome, Reception
from buildmaster.uploading.spool import Incoming, SpoolRefused, Why

PREFIX = b"upload"
_WASTE_MAX = 64 << 20  # Of a body that is refused, or of a request that should have none.
_LINGER_S = 10.0
_REASON_MAX = 400
_CODES = {Why.NAME: 400, Why.LARGE: 413, Why.FULL: 507}

_log = Logger()


class _Body:
    """The body of an upload, on its way to the spool. What is refused is read on, so that the answer is seen."""

    def __init__(self, incoming: Incoming | None, trouble: SpoolRefused | OSError | None) -> None:
        self.incoming = incoming
        self.trouble = trouble

    def write(self, data: bytes) -> None:
        if self.incoming is not None and self.trouble is None:
            try:
                self.incoming.write(data)
            except (SpoolRefused, OSError) as error:
                self.trouble = error

    def discard(self) -> None:
        """Forget it, unless it has come whole."""
        if self.incoming is not None:
            self.incoming.discard()

    # What twisted.web asks of the content of a request.
    def tell(self) -> int:
        return 0

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def close(self) -> None:
        self.discard()


class UploadRequest(Request):
    """A request to a site that has uploads. Only their bodies may be long; a site's `reception` takes them."""

    channel: Any
    content: Any
    _wasted_bytes = 0  # That came, and go nowhere.
    _answered = False

    def gotLength(self, length: int | None) -> None:
        reception: Reception | None = getattr(self.channel.site, "reception", None)
        words = [unquote_to_bytes(word) for word in self.channel._path.partition(b"?")[0].split(b"/")]
        if reception is None or self.channel._command != b"PUT" or words[1:2] != [PREFIX] or len(words) != 5:
            self.content = BytesIO()
            return
        peer = getattr(self.channel.transport.getPeer(), "host", "")
        try:
            name = words[4].decode("utf-8", "replace")
            self.content = _Body(reception.begin(name, peer, length), None)
        except (SpoolRefused, OSError) as error:
            self.content = _Body(None, error)
            if isinstance(error, SpoolRefused) and error.why is Why.LARGE:
                self._answer_at_once(error)

    def handleContentChunk(self, data: bytes) -> None:
        body = self.content
        if not isinstance(body, _Body) or body.trouble is not None:
            self._wasted_bytes += len(data)
            if self._wasted_bytes > _WASTE_MAX:
                self.channel.forceAbortClient()
            return
        body.write(data)

    def requestReceived(self, command: bytes, path: bytes, version: bytes) -> None:
        if self._answered:
            self.channel.loseConnection()
            return
        self.requestHeaders.removeHeader(b"content-type")  # Nobody posts forms here.
        super().requestReceived(command, path, version)  # type: ignore[no-untyped-call]

    def _answer_at_once(self, error: SpoolRefused) -> None:
        """Answer before the body comes, which would take hours, and close the connection some seconds later: at once,
        the sender would see a reset instead of the answer."""
        self._answered = True
        self.requestHeaders.removeHeader(b"expect")  # Or the answer would be followed by "100 Continue".
        phrase, body = _phrase(str(error)), str(error).encode() + b"\n"
        self.channel.transport.write(
            b"HTTP/1.1 413 %s\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (phrase, len(body), body)
        )
        linger = self.channel.site.reactor.callLater(_LINGER_S, self.channel.forceAbortClient)
        self.notifyFinish().addErrback(lambda _: linger.active() and linger.cancel())

    def connectionLost(self, reason: Failure) -> None:
        if isinstance(self.content, _Body):
            self.content.discard()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]


def take_uploads(site: Any, reception: Reception) -> None:
    """Let a site take uploads as well, at /upload. Its root must be able to have children."""
    site.reception = reception
    site.requestFactory = UploadRequest
    site.resource.putChild(PREFIX, Uploads(reception))


class Uploads(Resource):
    """/upload/DISTRIBUTION/ARCHIVE/FILE, for a site whose requests are UploadRequest."""

    isLeaf = True

    def __init__(self, reception: Reception) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._reception = reception

    def render_PUT(self, request: Any) -> int:
        gone: list[Failure] = []
        request.notifyFinish().addErrback(gone.append)

        def answer(code: int, text: str) -> None:
            if not gone:
                _answer(request, code, text)

        def broken(failure: Failure) -> None:
            _log.failure("cannot take {uri}", failure, uri=request.uri)
            answer(500, "this went wrong, and not by a fault of yours: try again later")

        Deferred.fromCoroutine(self._take(request)).addCallbacks(lambda said: answer(*said)).addErrback(broken)
        return NOT_DONE_YET

    async def _take(self, request: Any) -> tuple[int, str]:
        """The answer's code and text."""
        body = request.content
        if not isinstance(body, _Body) or len(request.postpath) != 3:
            return 404, "files are uploaded to /upload/DISTRIBUTION/ARCHIVE/FILE"
        if body.trouble is not None or body.incoming is None:
            return _refusal(body.trouble)
        try:
            words = [word.decode("utf-8", "replace") for word in request.postpath]
            outcome = await self._reception.finish(body.incoming, words[0], words[1])
        except NoSuchPlace as error:
            return 404, str(error)
        except NotNow as error:
            return 503, str(error)
        except OSError as error:
            return _refusal(error)
        return _code(outcome), outcome.text


def _code(outcome: Outcome) -> int:
    if not outcome.accepted:
        return 400
    return 202 if outcome.missing else 201


def _refusal(error: SpoolRefused | OSError | None) -> tuple[int, str]:
    if isinstance(error, SpoolRefused):
        return _CODES[error.why], str(error)
    _log.error("cannot keep an upload: {why}", why=error)
    return 507, "there is no room for uploads now: try again later"


def _answer(request: Any, code: int, text: str) -> None:
    request.setResponseCode(code, _phrase(text) if code >= 400 else None)
    request.setHeader(b"content-type", b"text/plain; charset=utf-8")
    body = text.encode() + b"\n"
    request.setHeader(b"content-length", b"%d" % len(body))
    request.write(body)
    request.finish()


def _phrase(text: str) -> bytes:
    """A text as an answer's reason phrase."""
    return " ".join(text.split()).encode("ascii", "replace")[:_REASON_MAX]
