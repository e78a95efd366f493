"""XML-RPC at /rpc: parse, call, answer. What is decided is decided by Builder and Fetching."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final
from xmlrpc.client import Fault

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.web import http, server
from twisted.web.resource import Resource
from twisted.web.xmlrpc import XMLRPC

from buildd.builder import Builder, Refused
from buildd.download import Source
from buildd.fetching import Fetching
from buildd.fileserver import Problem
from buildd.managers.base import InThread
from buildd.protocol import (
    PROTOCOL_VERSION,
    ProtocolError,
    StatusStruct,
    parse_build_id,
    parse_filemap,
    parse_sha1,
)
from buildd.xmlrequest import parse_call, sendable, write_answer

Method = Callable[..., Any]

# Parsing takes about 0.1 s a megabyte; larger requests are parsed, and answers to them written, in a thread.
_LARGE_BYTES: Final = 64 << 10
# What ends when its caller hangs up. The rest go on: what they do must not be done by half.
_ENDS_WITH_CALLER: Final = frozenset({"wait"})
_CONTENT_TYPE: Final = b"text/xml; charset=utf-8"

_log = Logger()


class Methods:
    """The protocol's methods, with arguments as they come off the wire.

    They raise ProtocolError or Refused for what is the caller's mistake.
    """

    def __init__(self, builder: Builder, fetching: Fetching, architecture: str) -> None:
        self._builder = builder
        self._fetching = fetching
        self._architecture = architecture

    def table(self) -> dict[str, Method]:
        """Methods by the name on the wire."""
        methods = (
            self.echo,
            self.info,
            self.status,
            self.ensurepresent,
            self.build,
            self.abort,
            self.clean,
            self.wait,
            self.proxy_info,
        )
        return {method.__name__: method for method in methods}

    def echo(self, *args: object) -> list[object]:
        return list(args)

    def info(self) -> list[object]:
        return [PROTOCOL_VERSION, self._architecture, sorted(self._builder.managers)]

    def status(self) -> StatusStruct:
        return self._builder.status()

    async def ensurepresent(
        self, sha1: object, url: object, username: object = "", password: object = ""
    ) -> tuple[bool, str]:
        parsed = parse_sha1(sha1)
        source = Source(_text(url, "url"), _text(username, "username"), _text(password, "password"))
        return await self._fetching.ensure_present(parsed, source if source.url else None)

    async def build(
        self, build_id: object, manager: object, chroot_sha1: object, filemap: object, args: object
    ) -> tuple[str, str]:
        if not isinstance(args, Mapping):
            raise ProtocolError(f"args must be a struct, not {type(args).__name__}")
        return await self._builder.build(
            parse_build_id(build_id), _text(manager, "manager"), parse_sha1(chroot_sha1), parse_filemap(filemap), args
        )

    def abort(self) -> str:
        return self._builder.abort().value

    async def clean(self) -> str:
        return (await self._builder.clean()).value

    async def wait(self, builder_status: object, build_id: object, timeout_s: object) -> StatusStruct:
        # bool is an int to Python; NaN is not >= 0.
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not timeout_s >= 0:
            raise ProtocolError("timeout_s must be a number of seconds, and not negative")
        return await self._builder.wait(_text(builder_status, "builder_status"), _text(build_id, "build_id"), timeout_s)

    def proxy_info(self) -> dict[str, str]:
        return {}  # No build type here has a network proxy of its own.


def _text(value: object, what: str) -> str:
    """A string; nil is an empty one."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ProtocolError(f"{what} must be a string, not {type(value).__name__}")
    return value


class RPCResource(Resource):
    """Answers POST with XML-RPC, at its own path and below it."""

    isLeaf = True

    def __init__(self, methods: Mapping[str, Method], in_thread: InThread) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # With signatures, so that a wrong number of arguments is told from a mistake of ours.
        self._methods = {name: (method, inspect.signature(method)) for name, method in methods.items()}
        self._in_thread = in_thread

    def render(self, request: Any) -> int | bytes:
        if request.method != b"POST":
            request.setHeader(b"allow", b"POST")
            return Problem(http.NOT_ALLOWED, "XML-RPC is called by POST.").render(request)
        Deferred.fromCoroutine(self._respond(request, _Caller(request)))
        return server.NOT_DONE_YET

    async def _respond(self, request: Any, caller: "_Caller") -> None:
        body = request.content.read()
        large = len(body) > _LARGE_BYTES
        answer = await self._answer(body, large, caller)
        try:
            content = await self._in_thread(write_answer, answer) if large else write_answer(answer)
        except ProtocolError as exc:
            content = write_answer(_failed(str(exc)))
        if caller.gone:
            return
        request.setHeader(b"content-type", _CONTENT_TYPE)
        request.setHeader(b"content-length", b"%d" % len(content))
        request.write(content)
        request.finish()

    async def _answer(self, body: bytes, large: bool, caller: "_Caller") -> object:
        """What a method answers, or a Fault."""
        name = "a request"
        try:
            name, arguments = await self._in_thread(parse_call, body) if large else parse_call(body)
            return await self._call(name, arguments, caller)
        except Fault as fault:
            return fault
        except (ProtocolError, Refused) as exc:
            _log.info("{name} refused: {why}", name=name, why=str(exc))
            return _failed(str(exc))
        except Exception as exc:  # The outermost of a call: the caller must get an answer.
            if not (caller.gone and isinstance(exc, CancelledError)):
                _log.failure("{name} failed", name=name)
            return _failed(f"{name} failed on this builder: {type(exc).__name__}: {exc}")

    async def _call(self, name: str, arguments: tuple[Any, ...], caller: "_Caller") -> object:
        method, signature = self._methods.get(name, (None, None))
        if method is None or signature is None:
            raise Fault(XMLRPC.NOT_FOUND, f"unknown method {sendable(name[:80])!r}")
        try:
            signature.bind(*arguments)
        except TypeError as exc:
            raise ProtocolError(f"{name}: {exc}; its arguments are ({', '.join(signature.parameters)})") from exc
        answer = method(*arguments)
        if not inspect.iscoroutine(answer):
            return answer
        running = Deferred.fromCoroutine(answer)
        if name in _ENDS_WITH_CALLER:
            caller.waits_for = running
        return await running


class _Caller:
    """Whoever sent a request, and may hang up before it is answered."""

    def __init__(self, request: Any) -> None:
        self.gone = False
        self.waits_for: Deferred[Any] | None = None  # To be cancelled then.
        request.notifyFinish().addErrback(self._hung_up)

    def _hung_up(self, _: object) -> None:
        self.gone = True
        if self.waits_for:
            self.waits_for.cancel()


def _failed(why: str) -> Fault:
    return Fault(XMLRPC.FAILURE, sendable(why))
