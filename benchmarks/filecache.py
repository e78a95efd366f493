"""A large file into the daemon (ensurepresent) and out of it (GET /filecache), beside what does only part of that."""

import argparse
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks.largefile import large_file, marked_sha1
from benchmarks.load import ANSWER_S, HOST, Server, WrongAnswer, cpu_s
from benchmarks.servers import as_server, baseline, daemon, python_of
from benchmarks.table import OTHER_RUN, median, show
from harness import BuilddTestSetup

_PIECE_BYTES = 1 << 20
NOTES = """
ours/its     debfarm-buildd's figure by this one: the median of the rounds, in which they take turns
CPU s        processor time that one file takes the server
sha1sum      of the same file, which is in memory
dd           a copy of it, with conv=fsync, in the same file system
sendfile     a server that sends it by sendfile(2)
http_server  Python's http.server, which copies it by shutil.copyfileobj
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    arguments = parse(argv)
    with daemon() as setup:
        measure(setup, arguments)


def measure(setup: BuilddTestSetup, arguments: argparse.Namespace) -> None:
    """Load a daemon that has nothing else to do."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="files-", dir=setup.places.tests))
        file = large_file(Path(folder), arguments.megabytes * 10**6)
        python = python_of(setup)
        sendfile = stack.enter_context(baseline("sendfile", file, python))
        http_server = stack.enter_context(baseline("http_server", file, python))
        sha1 = _fetching(setup, sendfile, file, arguments.rounds)
        _serving([(as_server(setup), f"/filecache/{sha1}"), (sendfile, "/0"), (http_server, "/0")], arguments.rounds)
    print(NOTES, OTHER_RUN, sep="\n")


def _fetching(setup: BuilddTestSetup, source: Server, file: Path, rounds: int) -> str:
    """Print the table of ensurepresent, of other content in each round; return what is in the cache now."""
    pid = setup.process.process.pid
    copy = file.with_name("copy")
    ours, cpu, hashing, copying = [], [], [], []
    for number in range(rounds):
        sha1 = marked_sha1(file, number)
        hashing.append(_time(_run, "sha1sum", file))
        copying.append(_time(_run, "dd", f"if={file}", f"of={copy}", "bs=1M", "conv=fsync"))
        copy.unlink()
        before = cpu_s(pid)
        ours.append(_time(_ensure_present, setup, sha1, f"http://{HOST}:{source.port}/{number}"))
        cpu.append(cpu_s(pid) - before)
    rows = [
        ("debfarm-buildd", f"{median(ours):.2f}", "", f"{median(cpu):.2f}"),
        ("sha1sum", f"{median(hashing):.2f}", _ratio(ours, hashing), ""),
        ("dd", f"{median(copying):.2f}", _ratio(ours, copying), ""),
    ]
    title = f"ensurepresent of {_megabytes(file)} MB (reference, 500 MB: 0.6 to 1.2 s, all of it deaf)"
    show(title, ("", "s", "ours/its", "CPU s"), rows)
    return sha1


def _serving(servers: Sequence[tuple[Server, str]], rounds: int) -> None:
    """Print the table of GET; the daemon is the first of the servers."""
    rates: list[list[float]] = [[] for _ in servers]
    cpu: list[list[float]] = [[] for _ in servers]
    for _ in range(rounds):
        for place, (server, path) in enumerate(servers):
            before, began = cpu_s(server.pid), time.perf_counter()
            received = _get(server, path)
            rates[place].append(received / (time.perf_counter() - began) / 1e6)
            cpu[place].append(cpu_s(server.pid) - before)
    rows = [
        (server.name, f"{median(rates[place]):,.0f}", _ratio(rates[0], rates[place]), f"{median(cpu[place]):.2f}")
        for place, (server, _) in enumerate(servers)
    ]
    title = f"GET of {received // 10**6} MB (reference, 500 MB: 2,300 to 2,800 MB/s)"
    show(title, ("", "MB/s", "ours/its", "CPU s"), rows)


def _get(server: Server, path: str) -> int:
    """Take a file in and throw it away; how many bytes its server announced, which came."""
    buffer = bytearray(_PIECE_BYTES)
    with socket.create_connection((HOST, server.port), ANSWER_S) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n".encode())
        head = b""
        while b"\r\n\r\n" not in head:
            if not (piece := connection.recv(1 << 12)):
                raise WrongAnswer(head)
            head += piece
        head, _, rest = head.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if b" 200 " not in head[:20] or len(lengths) != 1:
            raise WrongAnswer(head)
        received = len(rest)
        while count := connection.recv_into(buffer):
            received += count
        if received != int(lengths[0]):
            raise WrongAnswer(head)
    return received


def _ensure_present(setup: BuilddTestSetup, sha1: str, url: str) -> None:
    answer = setup.proxy.ensurepresent(sha1, url, "", "")
    assert answer == [True, "Download"], answer


def _run(*argv: str | Path) -> None:
    subprocess.run(argv, check=True, capture_output=True)


def _time(action: Callable[..., None], *arguments: object) -> float:
    began = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - began


def _ratio(ours: Sequence[float], its: Sequence[float]) -> str:
    return "" if ours is its else f"{median([one / other for one, other in zip(ours, its, strict=True)]):.2f}"


def _megabytes(file: Path) -> int:
    return file.stat().st_size // 10**6


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.filecache", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500, help="size of the file (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="just see that it works: 1 round of 20 MB")
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.megabytes, arguments.rounds = 20, 1
    return arguments


if __name__ == "__main__":
    main()
