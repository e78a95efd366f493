"""Tests of buildd.fileserver for what cannot be brought about from outside at will; the rest is in test_service."""

from pathlib import Path
from typing import IO, Any

import pytest

from buildd.fileserver import Span


class Request:
    """What a Span needs of one."""

    def __init__(self) -> None:
        self.written = b""
        self.end = ""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert not streaming

    def unregisterProducer(self) -> None:
        pass

    def write(self, data: bytes) -> None:
        self.written += data

    def finish(self) -> None:
        self.end = "finished"

    def loseConnection(self) -> None:
        self.end = "lost"


@pytest.fixture
def file(tmp_path: Path) -> IO[bytes]:
    path = tmp_path / "buildlog"
    path.write_bytes(b"x" * 200_000)
    return path.open("r+b")


def _sent(span: Span, request: Request) -> Request:
    for _ in range(10):
        span.resumeProducing()
        if request.end:
            return request
    raise AssertionError("it does not end")


def test_growing_file_ends_where_it_was_announced_to(file: IO[bytes]) -> None:
    """A log that grows as it is sent is sent as long as it was when its length was announced."""
    request = Request()
    span = Span(request, file, 0, 200_000)
    span.start()
    span.resumeProducing()
    with Path(file.name).open("ab") as writing:
        writing.write(b"y" * 200_000)
    assert _sent(span, request).written == b"x" * 200_000
    assert request.end == "finished"
    assert file.closed


def test_file_that_is_cut_short_breaks_the_connection(file: IO[bytes]) -> None:
    """A file that ends before it should is not passed off as whole, nor waited for."""
    request = Request()
    span = Span(request, file, 0, 300_000)
    span.start()
    assert _sent(span, request).end == "lost"
    assert file.closed


def test_part(file: IO[bytes]) -> None:
    """A part of a file begins and ends where it should; a part of no length is empty."""
    for size in (7, 0):
        request = Request()
        span = Span(request, Path(file.name).open("rb"), 199_990, size)  # noqa: SIM115
        span.start()
        assert len(_sent(span, request).written) == size
        assert request.end == "finished"
