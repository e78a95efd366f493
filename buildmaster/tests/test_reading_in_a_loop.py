"""Clients that read without a pause while an archive is published again and again."""

import os
import threading
from pathlib import Path

from buildmaster.indices.records import Edit, put, take_out
from buildmaster.indices.stanzas import contents_records
from buildmaster.publishing.tree import Keep
from buildmaster.tests.archive_case import CONTENTS, PACKAGES, Archive, Client, package

PUBLICATIONS = int(os.environ.get("DEBFARM_TEST_PUBLICATIONS", "200"))


def test_no_mismatch(tmp_path: Path) -> None:
    """Whatever a client reads, from InRelease on, is what InRelease says, in each form; and no change is lost."""
    archive = Archive(tmp_path, keep=Keep(seconds=60, generations=50))
    archive.add("first")
    failures: list[BaseException] = []
    done = threading.Event()
    read = [0, 0]

    def client(number: int) -> None:
        try:
            while not done.is_set():
                Client(archive.dists).check()
                read[number] += 1
        except BaseException as exc:  # Told below.
            failures.append(exc)

    clients = [threading.Thread(target=client, args=[number]) for number in range(2)]
    for thread in clients:
        thread.start()
    wanted = {"first"}
    try:
        for number in range(PUBLICATIONS):
            edits = list[Edit](put(PACKAGES, [package(f"package{number}")[0]]))
            wanted.add(f"package{number}")
            if number >= 20:
                edits += take_out(PACKAGES, [f"package{number - 20} 1 amd64".encode()])
                wanted.remove(f"package{number - 20}")
            if number % 10 == 0:
                edits += put(CONTENTS, contents_records([b"usr/bin/%d" % number], "", f"package{number}"))
            archive.publish(edits)
            if failures:
                break
    finally:
        done.set()
        for thread in clients:
            thread.join()
    assert not failures, failures[0]
    assert set(archive.names()) == wanted
    assert min(read) > PUBLICATIONS // 20
    current = archive.tree.current()
    assert current is not None and current.generation == PUBLICATIONS + 1
