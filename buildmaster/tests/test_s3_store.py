"""The store in a bucket: what is its own. What holds for every store is in test_store.py."""

import contextlib
import dataclasses
import hashlib
import io
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildmaster.store import NotStored, Sha256, StoreError
from buildmaster.store import s3 as s3_module
from buildmaster.store.s3 import PART_BYTES, Bucket, Credentials, S3Store, parse_s3_url
from buildmaster.tests.stores import bucket, credentials, server

LARGE = os.urandom(PART_BYTES) + os.urandom(PART_BYTES) + b"the last part"
SERVERS = ("seaweedfs", "rclone")


@pytest.fixture(params=SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def store(kind: str, tmp_path: Path) -> S3Store:
    return S3Store(bucket(kind), credentials, tmp_path / "spool")


def begin_upload(store: S3Store, content: bytes = b"x" * (6 << 20)) -> str:
    """As a writer leaves it that died after its first part."""
    place = store._at(Sha256(hashlib.sha256(content).hexdigest()))
    upload = store._client.create_multipart_upload(**place)["UploadId"]
    store._client.upload_part(**place, UploadId=upload, PartNumber=1, Body=content)
    return str(upload)


def uploads(store: S3Store) -> list[str]:
    answer = store._client.list_multipart_uploads(Bucket=store.bucket.name, Prefix=store.bucket.prefix)
    return [each["UploadId"] for each in answer.get("Uploads", ())]


def test_a_large_file(store: S3Store) -> None:
    """A file of several parts comes back, and leaves no upload behind."""
    stored = store.add([LARGE])
    assert stored.sha256 == hashlib.sha256(LARGE).hexdigest()
    with store.open(stored.sha256) as stream:
        assert stream.read() == LARGE
        assert stream.seek(PART_BYTES - 2) and stream.read(5) == LARGE[PART_BYTES - 2 : PART_BYTES + 3]
    assert uploads(store) == []


@pytest.mark.parametrize("checksums", ["when_required", "when_supported"])
def test_checksums(kind: str, tmp_path: Path, checksums: str) -> None:
    """Either way of sending checksums stores small and large files."""
    store = S3Store(dataclasses.replace(bucket(kind), checksums=checksums), credentials, tmp_path)
    for content in (b"small", LARGE):
        assert store.has(store.add([content]).sha256)


def test_a_file_of_the_wrong_length_is_replaced(store: S3Store) -> None:
    """A half of a file, which a server without atomic writes may have kept, does not count as the file."""
    sha256 = Sha256(hashlib.sha256(b"whole").hexdigest())
    store._client.put_object(**store._at(sha256), Body=b"who")
    store.add([b"whole"])
    with store.open(sha256) as stream:
        assert stream.read() == b"whole"


@pytest.mark.parametrize("wrong", [Credentials("farm", "guessed"), Credentials("nobody", "guessed")])
def test_wrong_credentials(kind: str, tmp_path: Path, wrong: Credentials) -> None:
    """Who has not the right secret can do nothing, and is told which secrets to look at; none is shown."""
    there = bucket(kind)
    stored = S3Store(there, credentials, tmp_path).add([b"x"])
    store = S3Store(there, lambda: wrong, tmp_path)
    for act in (
        lambda: store.add([b"y"]), lambda: store.open(stored.sha256), lambda: store.has(stored.sha256),
        lambda: store.delete(stored.sha256), lambda: list(store.files()), store.sweep,
    ):  # fmt: skip
        with pytest.raises(StoreError, match="s3-access-key and s3-secret-key are not good") as told:
            act()
        assert "guessed" not in str(told.value)
    assert "guessed" not in repr(wrong) and "guessed" not in repr(store)


def test_no_bucket(kind: str, tmp_path: Path) -> None:
    """A bucket that is not there is told."""
    store = S3Store(dataclasses.replace(bucket(kind), name="nowhere"), credentials, tmp_path)
    for act in (lambda: store.open(Sha256("0" * 64)), lambda: list(store.files()), store.sweep):
        with pytest.raises(StoreError, match="make the bucket first"):
            act()
    assert not store.has(Sha256("0" * 64))


def test_nobody_there(tmp_path: Path) -> None:
    """A server that does not run is told by its endpoint."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        store = S3Store(Bucket("farm-files", endpoint=endpoint), credentials, tmp_path)
        with pytest.raises(StoreError, match=rf"s3://farm-files/ at {endpoint}: .*: the server cannot be reached"):
            store.add([b"x"])


def test_silence_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes connections and says nothing is given up."""
    monkeypatch.setattr(s3_module, "_SILENCE_S", 0.2)
    monkeypatch.setattr(s3_module, "_ATTEMPTS", 2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        store = S3Store(Bucket("abc", endpoint=f"http://127.0.0.1:{mute.getsockname()[1]}"), credentials, tmp_path)
        with pytest.raises(StoreError, match="the server does not answer"):
            store.has(Sha256("0" * 64))


def test_secrets_are_read_when_needed(tmp_path: Path) -> None:
    """Who makes a store and does not use it needs no secret; the one who does is told why it was refused."""

    def refused() -> Credentials:
        raise PermissionError("secret: others may read it")

    store = S3Store(Bucket("abc", endpoint="http://127.0.0.1:1"), refused, tmp_path / "spool")
    with pytest.raises(PermissionError, match="others may read it"):
        store.has(Sha256("0" * 64))


def test_sweep(kind: str, tmp_path: Path) -> None:
    """The upload of a writer that died is removed, once nothing has come for it for long; on whichever machine."""
    there = bucket(kind)
    begin_upload(S3Store(there, credentials, tmp_path))
    foreign = S3Store(dataclasses.replace(there, prefix="another/farm/"), credentials, tmp_path)
    begin_upload(foreign)
    patient = S3Store(there, credentials, tmp_path)
    assert patient.sweep() == 0 and len(uploads(patient)) == 1
    time.sleep(2.1)  # Servers tell times by the second.
    store = S3Store(there, credentials, tmp_path, dead_s=1.0)
    assert store.sweep() == 1 and uploads(store) == []
    assert len(uploads(foreign)) == 1


def test_an_upload_that_goes_on_is_not_swept(tmp_path: Path) -> None:
    """An upload that began long ago and has had a part just now belongs to a living writer."""
    store = S3Store(bucket("seaweedfs"), credentials, tmp_path, dead_s=3.0)
    content = b"x" * (6 << 20)
    upload = begin_upload(store, content)
    time.sleep(3.5)
    place = store._at(Sha256(hashlib.sha256(content).hexdigest()))
    store._client.upload_part(**place, UploadId=upload, PartNumber=2, Body=b"y")
    assert store.sweep() == 0 and uploads(store) == [upload]


def test_a_writer_that_is_killed_leaves_nothing(store: S3Store, tmp_path: Path) -> None:
    """A process that ends in the middle of writing leaves no file: neither in the bucket nor in the spool."""
    script = f"""if True:
        import os, pathlib
        from buildmaster.store.s3 import Bucket, S3Store
        from buildmaster.tests.stores import credentials
        writer = S3Store({store.bucket!r}, credentials, pathlib.Path({str(tmp_path)!r}) / "spool").writer()
        writer.write(b"x" * 10_000_000)
        os._exit(9)
    """
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9
    assert list(store.files()) == [] and list((tmp_path / "spool").iterdir()) == []


def test_a_full_spool(store: S3Store) -> None:
    """When the local disk is full, nothing is stored and nothing is left behind."""
    writer = store.writer()
    os.dup2(os.open("/dev/full", os.O_WRONLY), writer._stream.fileno())
    with pytest.raises(OSError, match="No space"):
        writer.write(b"x" * 100)
        writer.commit()
    writer.discard()
    assert list(store.files()) == []


def test_presigned(store: S3Store) -> None:
    """Whoever has the URL fetches the file, and parts of it, without credentials; a changed URL is refused."""
    stored = store.add([b"Hello World"])
    url = store.url(stored.sha256, 60)
    assert url is not None and url.startswith(f"{store.bucket.endpoint}/")
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"Hello World"
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Range": "bytes=6-"})) as answer:
        assert answer.read() == b"World"
    for bad in (url.partition("?")[0], url.replace("Expires=60", "Expires=6000")):
        with pytest.raises(urllib.error.HTTPError) as told:
            urllib.request.urlopen(bad)
        assert told.value.code in (400, 403)


def test_presigned_ends(store: S3Store) -> None:
    """A presigned URL is good for the time that was asked for."""
    url = store.url(store.add([b"x"]).sha256, 1)
    assert url is not None
    time.sleep(2.2)
    with pytest.raises(urllib.error.HTTPError) as told:
        urllib.request.urlopen(url)
    assert told.value.code in (400, 403)


def test_builders_that_do_not_reach_the_store(kind: str, tmp_path: Path) -> None:
    """Where builders cannot reach the store, there is no URL of its own."""
    store = S3Store(dataclasses.replace(bucket(kind), presigned=False), credentials, tmp_path)
    assert store.url(store.add([b"x"]).sha256, 60) is None


class Cutter:
    """Stands before a server, and cuts its connections after so many bytes of answers."""

    def __init__(self, port: int, budgets: list[int]) -> None:
        """:param budgets: for one connection after the other; the last one is that of all that follow."""
        self._port, self._budgets = port, list(budgets)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):  # Closed.
            while True:
                front = self._listener.accept()[0]
                budget = self._budgets.pop(0) if len(self._budgets) > 1 else self._budgets[0]
                threading.Thread(target=self._relay, args=(front, budget), daemon=True).start()

    def _relay(self, front: socket.socket, left: int) -> None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._port)) as back:
            threading.Thread(target=self._forward, args=(front, back), daemon=True).start()
            while data := back.recv(65536):
                front.sendall(data[:left])
                left -= len(data)
                if left <= 0:
                    break
        with contextlib.suppress(OSError):
            front.shutdown(socket.SHUT_RDWR)
        front.close()

    @staticmethod
    def _forward(front: socket.socket, back: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := front.recv(65536):
                back.sendall(data)

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def cut_store(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[tuple[S3Store, S3Store]]:
    """A store, and the same one as seen through connections that break as the test says."""
    direct = bucket(kind)
    cutter = Cutter(int(server(kind).endpoint.rpartition(":")[2]), request.param)
    broken = dataclasses.replace(direct, endpoint=cutter.endpoint)
    yield S3Store(direct, credentials, tmp_path), S3Store(broken, credentials, tmp_path)
    cutter.close()


@pytest.mark.parametrize("cut_store", [[1 << 20, 1 << 22, 1 << 30]], indirect=True)
def test_reading_goes_on_where_it_broke(cut_store: tuple[S3Store, S3Store]) -> None:
    """A connection that breaks while a file is read is made anew, from there on."""
    direct, broken = cut_store
    stored = direct.add([LARGE])
    with broken.open(stored.sha256) as stream:
        assert stream.read() == LARGE


@pytest.mark.parametrize("cut_store", [[1 << 20, 0]], indirect=True)
def test_reading_that_always_breaks(cut_store: tuple[S3Store, S3Store], monkeypatch: pytest.MonkeyPatch) -> None:
    """A store from which no more can be read is told as such; a short file is never taken for the whole."""
    monkeypatch.setattr(s3_module, "_ATTEMPTS", 2)
    direct, broken = cut_store
    stored = direct.add([LARGE])
    got = io.BytesIO()
    with broken.open(stored.sha256) as stream, pytest.raises(StoreError):
        while data := stream.read(1 << 18):
            got.write(data)
    assert 0 < len(got.getvalue()) < len(LARGE)


def test_deleted_while_it_is_read(store: S3Store) -> None:
    """A file that goes while it is read is told; no half of it is taken for the whole."""
    stored = store.add([LARGE])
    with store.open(stored.sha256) as stream:
        store.delete(stored.sha256)
        stream.seek(PART_BYTES)
        with pytest.raises(NotStored):
            stream.read()


@pytest.mark.parametrize(
    ("url", "parsed"),
    [
        ("s3://farm", ("farm", "")), ("s3://farm/", ("farm", "")), ("s3://my.farm-1/a/b/", ("my.farm-1", "a/b/")),
    ],
)  # fmt: skip
def test_url(url: str, parsed: tuple[str, str]) -> None:
    """A store's URL names a bucket and, if wanted, a prefix."""
    assert parse_s3_url(url) == parsed


@pytest.mark.parametrize(
    "url",
    [
        "", "s3://", "s3:///x", "http://farm/x", "s3://Farm", "s3://farm/a b", "s3://farm/../x", "s3://farm/a//b", "s3://k:s@farm",
        "s3://farm?x=1", "s3://farm#x", "s3://[x",
    ],
)  # fmt: skip
def test_bad_url(url: str) -> None:
    """What is no store's URL is refused; so is one with credentials in it."""
    with pytest.raises(ValueError, match="is not a store such as"):
        parse_s3_url(url)


def test_nothing_slow_is_imported_early() -> None:
    """boto3 is imported when a bucket is used, and not for a folder."""
    script = "import sys, buildmaster.store.s3, buildmaster.farm; sys.exit('boto3' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
