"""Clients that read suites of an archive over HTTP without a pause, and notice what does not fit together."""

import gzip
import hashlib
import lzma
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import requests

from buildmaster.tests.archive_case import Apt
from harness import own_architecture


@dataclass
class Seen:
    """What a reader saw."""

    updates: int = 0
    generations: set[tuple[str, str]] = field(default_factory=set)  # Suites, with the SHA-256 of what they signed.
    faults: Counter[str] = field(default_factory=Counter)  # What a reader that may miss files had to complain of.


def by_apt(url: str, suites: Sequence[str], folder: Path, *, by_hash: bool) -> Callable[[Seen], None]:
    """Updates once; without a complaint, if files are fetched by their digests."""
    apt = Apt(folder, url, suites[0], arch=own_architecture())
    (folder / "key.asc").write_bytes(_got(f"{url}/key.asc"))
    lines = [f"{kind} [signed-by={folder}/key.asc] {url} {each} main" for kind in ("deb", "deb-src") for each in suites]
    (folder / "etc/sources.list").write_text("\n".join([*lines, ""]))
    options = ["-o", "Acquire::Languages=de", "-o", f"Acquire::By-Hash={'yes' if by_hash else 'no'}"]

    def update(seen: Seen) -> None:
        try:
            apt.update(*options)
        except AssertionError as error:
            if by_hash:
                raise
            seen.faults += Counter({_kind(line) for line in str(error).splitlines() if line.startswith(("E:", "W:"))})
        for path in (folder / "state/lists").glob("*_InRelease"):
            seen.generations.add((path.name.split("_")[-2], hashlib.sha256(path.read_bytes()).hexdigest()))

    return update


def _kind(complaint: str) -> str:
    known = ("Hash Sum mismatch", "unexpected size", "404", "Some index files failed", "Failed to fetch")
    return next((each for each in known if each in complaint), complaint)


def by_digest(url: str, suites: Sequence[str]) -> Callable[[Seen], None]:
    """Reads all that each InRelease names, in each form, and compares."""
    session = requests.Session()

    def read(seen: Seen) -> None:
        for suite in suites:
            signed = _got(f"{url}/dists/{suite}/InRelease", session)
            seen.generations.add((suite, hashlib.sha256(signed).hexdigest()))
            rows = [line.split() for line in signed.decode().splitlines() if line.startswith(" ")]
            sums = {path: (digest, int(size)) for digest, size, path in rows}
            for path, (digest, size) in sums.items():
                plain, _, suffix = path.rpartition(".")
                if suffix in ("gz", "xz"):
                    folder = f"{url}/dists/{suite}/{path.rpartition('/')[0]}"
                    content = _got(f"{folder}/by-hash/SHA256/{digest}", session)
                    _compare(path, content, digest, size)
                    _compare(plain, (gzip if suffix == "gz" else lzma).decompress(content), *sums[plain])

    return read


def _compare(path: str, content: bytes, digest: str, size: int) -> None:
    assert (hashlib.sha256(content).hexdigest(), len(content)) == (digest, size), f"{path} is not what InRelease says"


def _got(url: str, session: requests.Session | None = None) -> bytes:
    answer = (session or requests).get(url, timeout=30)
    assert answer.status_code == 200, f"{url}: {answer.status_code}"
    return answer.content


@contextmanager
def reading(readers: Mapping[str, Callable[[Seen], None]]) -> Iterator[tuple[dict[str, Seen], list[BaseException]]]:
    """Have readers read without a pause; what they have seen, and what went wrong."""
    seen: dict[str, Seen] = {name: Seen() for name in readers}
    wrong: list[BaseException] = []
    done = threading.Event()

    def run(name: str) -> None:
        try:
            while not done.is_set():
                readers[name](seen[name])
                seen[name].updates += 1
        except BaseException as exc:  # Told by who called.
            wrong.append(exc)

    threads = [threading.Thread(target=run, args=[name]) for name in readers]
    for each in threads:
        each.start()
    try:
        yield seen, wrong
    finally:
        done.set()
        for each in threads:
            each.join()


def answers(url: str) -> bool:
    """Whether an archive is served."""
    try:
        return requests.get(f"{url}/key.asc", timeout=30).ok
    except requests.ConnectionError:
        return False
