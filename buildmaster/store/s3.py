"""The store as a bucket of an S3 server: PREFIX/AB/CDEF... by SHA-256, the same names as a folder has.

What is written is spooled in a file without a name, since its key is its SHA-256, which is known at its end only; then
it is put under that key at once, in parts when it is large. A key comes into being whole, by S3's own rules, and two
writers of one key bring the same content: so no write is conditional, and nothing but the key is ever to be cleaned up.
A crash leaves no file, since the kernel forgets the spool; it may leave the parts of an upload, which nobody sees.
"""

import contextlib
import functools
import io
import re
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import urlsplit

from buildmaster.store import Listed, NotStored, Sha256, StoredFile, StoreError, parse_sha256, store_chunks
from buildmaster.store.s3_errors import code_of, failures_told
from buildmaster.store.writing import DigestingWriter

PART_BYTES = 16 << 20  # A larger file goes in parts of this size, each of which is in memory once.
DEAD_S = 86400.0  # An upload without a new part for so long has no writer any more: one part takes minutes at most.
_CONNECT_S = 10.0
_SILENCE_S = 60.0
_ATTEMPTS = 4
_BUFFER_BYTES = 1 << 18
_KEY = re.compile(r"([0-9a-f]{2})/([0-9a-f]{62})", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*", re.ASCII)


@dataclass(frozen=True)
class Credentials:
    """Who we are to the server."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)


@dataclass(frozen=True)
class Bucket:
    """Where the files are, and how the server wants to be spoken to."""

    name: str
    prefix: str = ""  # With a slash at its end, unless empty.
    endpoint: str = ""  # http://HOST:PORT; "": Amazon's own.
    region: str = "us-east-1"
    checksums: str = "when_required"  # boto3's request_checksum_calculation.
    presigned: bool = True  # Whether builders reach it.

    def __str__(self) -> str:
        return f"s3://{self.name}/{self.prefix}" + (f" at {self.endpoint}" if self.endpoint else "")


def parse_s3_url(url: str) -> tuple[str, str]:
    """Bucket and prefix of s3://BUCKET/PREFIX; the prefix has a slash at its end unless it is empty.

    :raises ValueError: it is none.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    prefix = parts.path.strip("/")
    plain = not (parts.query or parts.fragment)
    good = parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc) and plain
    if not good or (prefix and not _PREFIX.fullmatch(prefix)) or {".", ".."} & set(prefix.split("/")):
        raise ValueError("is not a store such as s3://BUCKET or s3://BUCKET/PREFIX")
    return parts.netloc, f"{prefix}/" if prefix else ""


class S3Store:
    """A store in a bucket, which must be there. See :class:`buildmaster.store.Store`."""

    def __init__(
        self, bucket: Bucket, credentials: Callable[[], Credentials], spool: Path, dead_s: float = DEAD_S
    ) -> None:
        """Nothing is asked of the server yet, and no secret read.

        :param credentials: asked once, when the store is first used; what it raises goes to that user.
        :param spool: a folder for what is being written; made when it is needed.
        """
        self.bucket = bucket
        self._credentials = credentials
        self._spool = spool
        self._dead_s = dead_s
        self._lock = threading.Lock()
        self._made: Any = None

    def writer(self) -> "S3Writer":
        self._spool.mkdir(parents=True, exist_ok=True)
        return S3Writer(self, cast(BinaryIO, tempfile.TemporaryFile(dir=self._spool)))

    def add(self, chunks: Iterable[bytes]) -> StoredFile:
        return store_chunks(self, chunks)

    def open(self, sha256: Sha256) -> BinaryIO:
        return cast(BinaryIO, io.BufferedReader(_Stream(self, sha256), _BUFFER_BYTES))

    def has(self, sha256: Sha256) -> bool:
        return self.size(sha256) is not None

    def size(self, sha256: Sha256) -> int | None:
        """The length of a file in bytes; None: it is not here."""
        with self._told("looking for", sha256):
            try:
                return int(self._client.head_object(**self._at(sha256))["ContentLength"])
            except self._client.exceptions.ClientError as error:
                if code_of(error) in ("404", "NoSuchKey", "NotFound"):
                    return None
                raise

    def get(self, sha256: Sha256, offset: int = 0) -> tuple[Any, int]:
        """The content from an offset on, as botocore's StreamingBody, and how long that is in bytes.

        :raises NotStored: it is not here.
        """
        extra = {"Range": f"bytes={offset}-"} if offset else {}
        with self._told("reading", sha256):
            try:
                answer = self._client.get_object(**self._at(sha256), **extra)
            except self._client.exceptions.NoSuchKey:
                raise NotStored(sha256) from None
            # Some servers say 200 with a part as well.
            if offset and not answer.get("ContentRange", "").startswith(f"bytes {offset}-"):
                raise StoreError(f"the store {self.bucket} cannot give a part of a file")
            return answer["Body"], int(answer["ContentLength"])

    def put(self, sha256: Sha256, stream: BinaryIO) -> None:
        """Put a file there, whole or not at all."""
        from boto3.s3.transfer import TransferConfig  # noqa: PLC0415 - slow, and not for every command.

        how = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, use_threads=False)
        place = self._at(sha256)
        with self._told("storing", sha256):
            self._client.upload_fileobj(stream, place["Bucket"], place["Key"], Config=how)

    def delete(self, sha256: Sha256) -> None:
        with self._told("deleting", sha256):
            self._client.delete_object(**self._at(sha256))

    def files(self, prefix: str = "") -> Iterator[Listed]:
        begins = self.bucket.prefix + (f"{prefix[:2]}/{prefix[2:]}" if len(prefix) >= 2 else prefix)
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket.name, Prefix=begins)
        with self._told("listing"):
            for page in pages:
                for each in page.get("Contents", ()):
                    match = _KEY.fullmatch(each["Key"].removeprefix(self.bucket.prefix))
                    if match:
                        yield Listed(Sha256(match[1] + match[2]), each["Size"], each["LastModified"].timestamp())

    def local_path(self, sha256: Sha256) -> Path | None:
        return None

    def url(self, sha256: Sha256, lifetime_s: int) -> str | None:
        if not self.bucket.presigned:
            return None
        with self._told("signing for", sha256):
            made = self._client.generate_presigned_url("get_object", Params=self._at(sha256), ExpiresIn=lifetime_s)
        return str(made)

    def sweep(self) -> int:
        """Abort uploads without a new part for a day, of whichever machine: no writer needs that long for one."""
        swept = 0
        with self._told("looking for unfinished uploads"):
            for upload, now in self._uploads():
                if self._is_dead(upload, now):
                    self._abort(upload)
                    swept += 1
        return swept

    def _uploads(self) -> Iterator[tuple[Any, float]]:
        """Unfinished uploads of files of this store, and the server's time."""
        pages = self._client.get_paginator("list_multipart_uploads")
        try:
            for page in pages.paginate(Bucket=self.bucket.name, Prefix=self.bucket.prefix):
                for each in page.get("Uploads", ()):
                    if _KEY.fullmatch(each["Key"].removeprefix(self.bucket.prefix)):
                        yield each, _server_time(page)
        except self._client.exceptions.ClientError as error:
            if code_of(error) not in ("NoSuchUpload", "NotImplemented"):  # As rclone says that there are none.
                raise

    def _is_dead(self, upload: Any, now: float) -> bool:
        """Whether nothing has come for an upload for long; both times are the server's."""
        if now - upload["Initiated"].timestamp() <= self._dead_s:
            return False
        place = {"Bucket": self.bucket.name, "Key": upload["Key"], "UploadId": upload["UploadId"]}
        try:
            parts = [part for page in self._client.get_paginator("list_parts").paginate(**place)
                     for part in page.get("Parts", ())]  # fmt: skip
        except self._client.exceptions.NoSuchUpload:
            return False
        return all(now - part["LastModified"].timestamp() > self._dead_s for part in parts)

    def _abort(self, upload: Any) -> None:
        with contextlib.suppress(self._client.exceptions.NoSuchUpload):  # Another master sweeps as well.
            self._client.abort_multipart_upload(Bucket=self.bucket.name, Key=upload["Key"], UploadId=upload["UploadId"])

    def _at(self, sha256: Sha256) -> dict[str, str]:
        digits = parse_sha256(sha256)
        return {"Bucket": self.bucket.name, "Key": f"{self.bucket.prefix}{digits[:2]}/{digits[2:]}"}

    def _told(self, what: str, sha256: str = "") -> contextlib.AbstractContextManager[None]:
        return failures_told(f"the store {self.bucket}: {what} {sha256}".rstrip())

    @property
    def _client(self) -> Any:
        """boto3's client, which threads may share; made once."""
        with self._lock:
            if self._made is None:
                self._made = _client(self.bucket, self._credentials())
            return self._made


class S3Writer(DigestingWriter):
    """A file on its way into an S3Store. See :class:`buildmaster.store.StoreWriter`."""

    def __init__(self, of: S3Store, spool: BinaryIO) -> None:
        super().__init__(spool)
        self._store = of

    def commit(self) -> StoredFile:
        try:
            if self._store.size(self.sha256) != self.size:
                self._stream.seek(0)
                self._store.put(self.sha256, self._stream)
            return self.stored()
        finally:
            self.discard()

    def discard(self) -> None:
        with contextlib.suppress(OSError):  # Closing flushes what a full disk did not take.
            self._stream.close()


class _Stream(io.RawIOBase):
    """A file of the store, read from wherever it is asked for. A connection that breaks is made anew."""

    def __init__(self, of: S3Store, sha256: Sha256) -> None:
        super().__init__()
        self._store = of
        self._sha256 = sha256
        self._position = 0
        self._body, self._size = of.get(sha256)
        self._body_at = 0  # What the body will give next.

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._position)
        if wanted <= 0:
            return 0
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                data = self._read(wanted)
                break
            except StoreError:
                self._drop()
                if attempt == _ATTEMPTS:
                    raise
        buffer[: len(data)] = data
        self._position += len(data)
        self._body_at = self._position
        return len(data)

    def _read(self, wanted: int) -> bytes:
        if self._body is None or self._body_at != self._position:
            self._drop()
            self._body, _ = self._store.get(self._sha256, self._position)
            self._body_at = self._position
        with failures_told(f"the store {self._store.bucket}: reading {self._sha256}"):
            data: bytes = self._body.read(wanted)
        if not data:
            raise StoreError(f"the store {self._store.bucket}: {self._sha256} ends too early")
        return data

    def _drop(self) -> None:
        if self._body is not None:
            self._body.close()
        self._body = None

    def close(self) -> None:
        if not self.closed:
            self._drop()
        super().close()


@functools.cache
def _session() -> Any:
    """boto3's, which has read the descriptions of the service by its second client: that takes a tenth of a second."""
    import boto3  # noqa: PLC0415 - takes longer to import than most commands take to run.

    return boto3.session.Session()


_MAKING = threading.Lock()  # A session makes one client at a time.


def _client(bucket: Bucket, credentials: Credentials) -> Any:
    try:
        from botocore.config import Config  # noqa: PLC0415 - as boto3.

        session = _session()
    except ImportError as error:
        raise StoreError(f"the store {bucket} needs Debian's package python3-boto3, or debfarm's extra `s3`") from error

    config = Config(
        signature_version="s3v4",
        s3={"addressing_style": "path" if bucket.endpoint else "auto"},
        connect_timeout=_CONNECT_S,
        read_timeout=_SILENCE_S,
        retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
        max_pool_connections=50,
        request_checksum_calculation=bucket.checksums,
        response_checksum_validation="when_required",  # Who reads compares the SHA-256.
    )
    with _MAKING:
        return session.client(
            "s3",
            endpoint_url=bucket.endpoint or None,
            region_name=bucket.region,
            aws_access_key_id=credentials.access_key,
            aws_secret_access_key=credentials.secret_key,
            config=config,
        )


def _server_time(answer: Any) -> float:
    """The time by the server's clock, which is the one that its files are dated by."""
    date: datetime = parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
    return date.timestamp()
