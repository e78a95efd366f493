"""Bad input, sent to a real daemon: each gets a clear answer, changes nothing, and leaves the daemon responsive."""

import hashlib
import socket
import time
import xmlrpc.client
from collections.abc import Iterator
from typing import Any

import pytest

from buildd.tests.running import FileServer, RunningDaemon, hang, status_line, whole

SHA1 = "a" * 40
LIMIT_BYTES = 16 << 20


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    directory = tmp_path_factory.mktemp("bad") / "daemon"
    with RunningDaemon(directory, download_stall="1s") as daemon:
        yield daemon


@pytest.fixture
def daemon(running: RunningDaemon) -> Iterator[RunningDaemon]:
    """The daemon; afterwards it answers at once, is what it was, and holds no more files than before."""
    before = running.rpc.status(), _files(running)
    tracebacks = running.log.read_bytes().count(b"Traceback")
    yield running
    begun = time.monotonic()
    assert running.rpc.echo("x") == ["x"]
    assert time.monotonic() - begun < 2
    assert (running.rpc.status(), _files(running)) == before
    assert running.log.read_bytes().count(b"Traceback") == tracebacks


def _files(daemon: RunningDaemon) -> list[str]:
    return sorted(str(path.relative_to(daemon.directory)) for path in daemon.directory.rglob("*"))


def _fault(call: Any, *arguments: Any) -> str:
    """The sentence of the fault that a call brings."""
    with pytest.raises(xmlrpc.client.Fault) as raised:
        call(*arguments)
    assert raised.value.faultCode == 8002
    assert "Traceback" not in raised.value.faultString
    return str(raised.value.faultString)


def _post(daemon: RunningDaemon, body: bytes, *headers: bytes, length: int | None = None) -> bytes:
    """What is answered to a body, until the daemon closes the connection."""
    announced = len(body) if length is None else length
    head = [b"POST /rpc HTTP/1.1", b"Host: x", b"Connection: close", *headers]
    if length != -1:
        head.append(b"Content-Length: %d" % announced)
    with daemon.send(b"\r\n".join(head) + b"\r\n\r\n" + body) as connection:
        return _read(connection)


def _read(connection: socket.socket) -> bytes:
    answer = b""
    while data := connection.recv(65536):
        answer += data
    return answer


def _fault_of(answer: bytes) -> str:
    """The sentence of the fault in an HTTP answer."""
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    return _fault(xmlrpc.client.loads, body.decode())


BAD_NAMES = ["", ".", "..", "a/b", "../x", "/etc/passwd", "a\\b", "a\nb", "a\tb", ".hidden", "x" * 300, 7, None, ["a"]]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_bad_build_id(name: object, daemon: RunningDaemon) -> None:
    """A build id is one plain path segment."""
    assert "build id" in _fault(daemon.rpc.build, name, "fake", SHA1, {}, {})


@pytest.mark.parametrize("name", [name for name in BAD_NAMES if isinstance(name, str)])
def test_bad_file_name(name: str, daemon: RunningDaemon) -> None:
    """A name in a filemap is one plain path segment."""
    assert "file name" in _fault(daemon.rpc.build, "x", "fake", SHA1, {name: SHA1}, {})


@pytest.mark.parametrize("what", ["build id", "file name"])
def test_nul_in_a_name(what: str, daemon: RunningDaemon) -> None:
    """XML has no NUL, however it is written."""
    for nul in ("\0", "&#0;"):
        body = xmlrpc.client.dumps(("x-NUL", "fake", SHA1, {"NUL": SHA1}, {}), "build").replace("NUL", nul)
        assert "not well-formed XML" in _fault_of(_post(daemon, body.encode()))


BAD_SHA1S = ["", "a" * 39, "a" * 41, "g" * 40, "../../../etc/passwd", "a" * 39 + "\n", "٣" * 40, 5, None, [SHA1], {}]


@pytest.mark.parametrize("sha1", BAD_SHA1S)
def test_bad_sha1(sha1: object, daemon: RunningDaemon) -> None:
    """A SHA-1 is 40 hex digits, wherever it stands."""
    assert "not a SHA-1" in _fault(daemon.rpc.ensurepresent, sha1, "", "", "")
    assert "not a SHA-1" in _fault(daemon.rpc.build, "x", "fake", sha1, {}, {})
    assert "not a SHA-1" in _fault(daemon.rpc.build, "x", "fake", SHA1, {"x.dsc": sha1}, {})


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "/etc/passwd", "http://", "http://a\nb/"])
def test_bad_url(url: str, daemon: RunningDaemon) -> None:
    """Only http and https are fetched."""
    with open("/etc/passwd", "rb") as passwd:  # noqa: PTH123
        sha1 = hashlib.sha1(passwd.read()).hexdigest()
    present, text = daemon.rpc.ensurepresent(sha1, url, "", "")
    assert not present
    assert text.startswith("Error accessing Librarian: ")
    assert daemon.get(f"/filecache/{sha1}")[0] == 404


@pytest.mark.parametrize("bad", [(7, "", ""), ("http://x/", 7, ""), ("http://x/", "", ["x"]), ({}, "", "")])
def test_wrong_types_in_ensurepresent(bad: tuple[Any, ...], daemon: RunningDaemon) -> None:
    """Arguments of the wrong type are told by name."""
    assert "must be a string" in _fault(daemon.rpc.ensurepresent, SHA1, *bad)


def test_bad_file_servers(daemon: RunningDaemon) -> None:
    """Redirects, wrong content, a server that hangs, one that ends early: nothing of it is kept."""
    scripts = {
        "/redirect": status_line(b"301 Moved Permanently", b"Location: /content"),
        "/content": whole(b"something else"),
        "/hang": hang,
        "/early": whole(b"abc", announced=4),
    }
    texts = {}
    with FileServer(scripts) as server:
        for path in scripts:
            present, texts[path] = daemon.rpc.ensurepresent(SHA1, server.url(path), "", "")
            assert not present
    assert "redirects are not followed" in texts["/redirect"]
    assert texts["/content"] == "Digests did not match, removing again!"
    assert "sent nothing for 1 s" in texts["/hang"]
    assert "ended after 3" in texts["/early"]


def test_full_disk(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A disk without room: a clear answer, and nothing is left."""
    directory = tmp_path_factory.mktemp("full") / "daemon"
    with RunningDaemon(directory, free_space="1000000T") as daemon, FileServer({"/x": whole(b"x" * 1000)}) as server:
        present, text = daemon.rpc.ensurepresent(SHA1, server.url("/x"), "", "")
        assert not present
        assert text.startswith("Error accessing Librarian: the builder's disk is full")
        assert not list((directory / "filecache").iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        ("x", "fake", SHA1, [], {}),
        ("x", "fake", SHA1, "x.dsc", {}),
        ("x", "fake", SHA1, {}, []),
        ("x", "fake", SHA1, {}, None),
        ("x", ["fake"], SHA1, {}, {}),
        ("x", "fake", SHA1, {"x": 1}, {}),
    ],
)
def test_wrong_types_in_build(arguments: tuple[Any, ...], daemon: RunningDaemon) -> None:
    """An argument of the wrong type is a fault."""
    _fault(daemon.rpc.build, *arguments)


@pytest.mark.parametrize("arguments", [(1, "", 1), ("x", [], 1), ("x", "", "1"), ("x", "", -1), ("x", "", True)])
def test_wrong_types_in_wait(arguments: tuple[Any, ...], daemon: RunningDaemon) -> None:
    """wait checks its arguments, and so does not wait."""
    _fault(daemon.rpc.wait, *arguments)


def test_wait_for_not_a_number(daemon: RunningDaemon) -> None:
    """NaN seconds are none."""
    _fault(daemon.rpc.wait, "BuilderStatus.IDLE", "", float("nan"))


def test_calls_in_the_wrong_state(daemon: RunningDaemon) -> None:
    """abort and clean without a build are faults that say in which state the builder is."""
    assert "IDLE" in _fault(daemon.rpc.abort)
    assert "IDLE" in _fault(daemon.rpc.clean)


def test_build_while_building(running: RunningDaemon) -> None:
    """A second build is refused, and the first one's id stays."""
    chroot = running.present(b"chroot")
    running.rpc.build("first", "fake", chroot, {}, {"hang": True})
    try:
        assert "BUILDING" in _fault(running.rpc.build, "second", "fake", chroot, {}, {})
        assert running.rpc.status()["build_id"] == "first"
    finally:
        running.rpc.abort()
        running.wait_for("WAITING")
        running.rpc.clean()


def test_unsuitable_arguments(running: RunningDaemon) -> None:
    """What the build type does not like is the fault's text; the daemon stays IDLE."""
    chroot = running.present(b"chroot")
    assert _fault(running.rpc.build, "x", "fake", chroot, {}, {"refuse": "no .dsc"}) == "no .dsc"
    assert running.rpc.status()["builder_status"] == "BuilderStatus.IDLE"


LAUGHS = "".join(f'<!ENTITY {new} "{f"&{old};" * 10}">' for old, new in zip("abcdefghi", "bcdefghij", strict=True))
ENTITIES = (
    f"<?xml version='1.0'?><!DOCTYPE a [<!ENTITY a '{'x' * 1000}'>{LAUGHS}]>"
    "<methodCall><methodName>echo</methodName><params><param><value>&j;</value></param></params></methodCall>"
)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not well-formed XML"),
        (b"not XML", "not well-formed XML"),
        (b"\0\1\2\xff" * 1000, "not well-formed XML"),
        (b"<methodCall></methodCall>", "not a method call"),
        (ENTITIES.encode(), "document type or entities"),
        (b"<!DOCTYPE a SYSTEM 'file:///etc/passwd'><methodCall/>", "document type or entities"),
        (
            b"<methodCall><methodName>echo</methodName><params><param>"
            + b"<value><array><data>" * 200_000
            + b"</data></array></value>" * 200_000
            + b"</param></params></methodCall>",
            "nested deeper",
        ),
        (b"<a>" + b"<b/>" * 2_000_000 + b"</a>", "elements of XML"),
    ],
    ids=["nothing", "text", "binary", "no call", "entities", "external entity", "nested arrays", "many elements"],
)
def test_bad_xml(body: bytes, complaint: str, daemon: RunningDaemon) -> None:
    """XML that is none, or that would grow or recurse, is a clear fault."""
    assert complaint in _fault_of(_post(daemon, body))


def _expect_413(answer: bytes) -> None:
    assert answer.startswith(b"HTTP/1.1 413 "), answer[:200]
    assert b"A request may have at most 16777216 bytes." in answer


def test_large_body_is_refused_before_it_is_sent(daemon: RunningDaemon) -> None:
    """A body that is announced as too large is refused (413) without waiting for it."""
    begun = time.monotonic()
    head = b"POST /rpc HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (100 << 20)
    with daemon.send(head) as connection:
        answer = connection.recv(65536)
        _expect_413(answer)
        assert b"100 Continue" not in answer
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize("chunked", [False, True])
def test_large_body_takes_no_memory(chunked: bool, daemon: RunningDaemon) -> None:
    """A body of 100 MB is refused (413), whether its length is announced or not, and its sender can read that."""
    before = daemon.resident_bytes()
    piece = b"x" * (1 << 20)
    head = b"POST /rpc HTTP/1.1\r\nHost: x\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n" if chunked else b"Content-Length: %d\r\n\r\n" % (100 << 20)
    with daemon.send(head) as connection:
        for _ in range(100):
            connection.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            connection.sendall(b"0\r\n\r\n")
        _expect_413(_read(connection))
    assert daemon.resident_bytes() - before < 2 * LIMIT_BYTES


def test_largest_body_is_parsed(daemon: RunningDaemon) -> None:
    """Up to the limit a request is answered, and others are meanwhile."""
    text = "x" * (LIMIT_BYTES - 1000)
    assert daemon.rpc.echo(text) == [text]


@pytest.mark.parametrize("length", [b"x", b"-1", b"1, 2", b"0x10", b"+5"])
def test_content_length_that_is_none(length: bytes, daemon: RunningDaemon) -> None:
    """A Content-Length that is no number: 400."""
    with daemon.send(b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: " + length + b"\r\n\r\nhello") as connection:
        assert _read(connection).startswith(b"HTTP/1.1 400 ")


def test_content_length_that_is_too_short(daemon: RunningDaemon) -> None:
    """A body that is longer than announced is cut, so it is no XML."""
    body = xmlrpc.client.dumps(("x",), "echo").encode()
    assert "not well-formed XML" in _fault_of(_post(daemon, body, length=len(body) - 10))


def test_content_length_that_is_too_long(daemon: RunningDaemon) -> None:
    """A body that never comes holds up nobody else."""
    body = xmlrpc.client.dumps(("x",), "echo").encode()
    head = b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (len(body) + 10)
    with daemon.send(head + body):
        assert daemon.rpc.echo("y") == ["y"]


def test_two_lengths(daemon: RunningDaemon) -> None:
    """Two lengths in one request: 400."""
    head = b"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with daemon.send(head) as connection:
        assert _read(connection).startswith(b"HTTP/1.1 400 ")


def test_forms_are_not_parsed(daemon: RunningDaemon) -> None:
    """A form is nothing but a body that is no XML."""
    boundary = b"Content-Type: multipart/form-data; boundary=x"
    assert "not well-formed XML" in _fault_of(_post(daemon, b"--x\r\n" * 100_000, boundary))


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "BREW"])
def test_other_methods(method: str, daemon: RunningDaemon) -> None:
    """/rpc takes POST only."""
    assert daemon.get("/rpc", method)[0] in (405, 501)


@pytest.mark.parametrize("path", ["/filecache", "/filecache/", "/filecache//"])
def test_no_listing(path: str, daemon: RunningDaemon) -> None:
    """There is no listing of /filecache."""
    status, _, body = daemon.get(path)
    assert status in (403, 404)
    assert hashlib.sha1(b"chroot").hexdigest().encode() not in body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"/filecache/{SHA1}", 404),
        (f"/filecache/{SHA1}/x", 404),
        ("/filecache/..", 400),
        ("/filecache/../lock", 404),
        ("/filecache/../../etc/passwd", 404),
        ("/filecache/%2e%2e%2flock", 400),
        ("/filecache/..%2flock", 400),
        ("/filecache/%00", 400),
        ("/filecache/.partial-x", 400),
        ("/filecache/" + "a" * 300, 400),
        ("/filecache/%ff%fe", 400),
        ("/filecache/buildlog/x", 404),
        ("/etc/passwd", 404),
        ("/", 404),
    ],
)
def test_bad_paths(path: str, status: int, daemon: RunningDaemon) -> None:
    """404 for what is unknown, 400 for what is no name, and never anything of the disk."""
    answered, _, body = daemon.get(path)
    assert answered == status
    assert b"root:" not in body


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=x-y", "lines=1-2", "bytes=" + "0-0," * 1000, "bytes=-"])
def test_bad_ranges(header: str, running: RunningDaemon) -> None:
    """A range that makes no sense is ignored or refused."""
    sha1 = running.present(b"0123456789")
    assert running.get(f"/filecache/{sha1}", Range=header)[0] in (200, 206, 400, 416)
    assert running.rpc.echo("x") == ["x"]
