"""Programs that read archives, as Debian ships them: none of them has anything to object to."""

import hashlib
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from buildmaster.indices.records import IndexKind, IndexName, put
from buildmaster.indices.stanzas import File, contents_records, packages_record, sources_record
from buildmaster.publishing.pool import PoolFile
from buildmaster.tests.archive_case import CONTENTS, PACKAGES, SOURCES, Apt, Archive, key, package, write_source
from buildmaster.tests.factories import write_deb


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not shutil.which(program), reason=f"needs Debian's {program}")


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """A folder over HTTP: its URL, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()


def add_deb(archive: Archive, folder: Path, name: str, version: str = "1.0", fields: str = "") -> None:
    """Publish a real .deb, with its contents."""
    deb = write_deb(folder, name, version, fields=fields)
    control = subprocess.run(["dpkg-deb", "--field", deb], capture_output=True, text=True, check=True).stdout
    content = deb.read_bytes()
    path, sha256 = f"pool/main/{name[0]}/{name}/{deb.name}", hashlib.sha256(content).hexdigest()
    archive.pool.place([PoolFile(path, len(content), sha256, deb)])
    record = packages_record(control, File(path, len(content), sha256))
    archive.publish([*put(PACKAGES, [record]), *put(CONTENTS, contents_records([b"usr/bin/hello"], "", name))])


def add_source(archive: Archive, folder: Path) -> None:
    """Publish a real source package."""
    write_source(folder)
    found = {path.name: path for path in folder.glob("hello_1.0.*")}
    files = {
        name: PoolFile(
            f"pool/main/h/hello/{name}", path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest(), path
        )
        for name, path in found.items()
    }
    archive.pool.place(files.values())
    dsc = files["hello_1.0.dsc"]
    record = sources_record(found["hello_1.0.dsc"].read_bytes(), File(dsc.path, dsc.size, dsc.sha256))
    archive.publish(put(SOURCES, [record]))


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """One with two binary packages and a source."""
    archive = Archive(tmp_path / "archive")
    add_deb(archive, tmp_path / "debs", "hello", fields="Section: devel\nPriority: required")
    add_deb(archive, tmp_path / "debs", "bash", "5.2-1", fields="Section: shells\nPriority: required")
    add_source(archive, tmp_path / "source")
    return archive


def test_apt_by_http_and_by_hash(archive: Archive, tmp_path: Path) -> None:
    """apt asks for indices by their digest and for nothing else, and fetches binaries and sources."""
    with served(archive.directory) as (url, asked):
        apt = Apt(tmp_path / "apt", url, "bookworm")
        apt.update()
        indices = [path for path in asked if "/dists/" in path]
        assert indices.pop(0) == "/dists/bookworm/InRelease"
        assert len(indices) == 2 and all(re.search(r"/by-hash/SHA256/[0-9a-f]{64}$", path) for path in indices)
        apt.run("apt-get", "download", "hello")
        apt.run("apt-get", "source", "--download-only", "hello")
        del asked[:]
        apt.update()  # Nothing changed: one question.
        assert asked == ["/dists/bookworm/InRelease"]
    assert sorted(path.name for path in (tmp_path / "apt").glob("hello_*")) == [
        "hello_1.0.dsc",
        "hello_1.0.tar.xz",
        "hello_1.0_amd64.deb",
    ]


@pytest.mark.parametrize("compressed", ["true", "false"])
def test_contents_by_apt(archive: Archive, tmp_path: Path, compressed: str) -> None:
    """Contents are fetched by apt as apt-file would have it do that, of the architecture and of all."""
    everywhere = IndexName("main", IndexKind.CONTENTS, "all")
    archive.publish(put(everywhere, contents_records([b"usr/share/doc/hello/README"], "doc", "hello-doc")))
    apt = Apt(tmp_path / "apt", f"file:{archive.directory}", "bookworm")
    target = "Acquire::IndexTargets::deb::Contents-deb"
    settings = {
        "MetaKey": "$(COMPONENT)/Contents-$(ARCHITECTURE)",
        "ShortDescription": "Contents-$(ARCHITECTURE)",
        "Description": "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Contents (deb)",
        "KeepCompressed": compressed,
    }
    apt.update(*(word for name, value in settings.items() for word in ("-o", f"{target}::{name}={value}")))
    found = sorted((tmp_path / "apt/state/lists").glob("*Contents*"))
    assert [path.name.rpartition("_main_")[2].partition(".")[0] for path in found] == ["Contents-all", "Contents-amd64"]


def test_every_compression_that_apt_knows(archive: Archive, tmp_path: Path) -> None:
    """apt that prefers gzip is content, too."""
    apt = Apt(tmp_path / "apt", f"file:{archive.directory}", "bookworm")
    apt.update("-o", "Acquire::CompressionTypes::Order::=gz")
    assert apt.packages() == ["bash", "hello"]


def test_apt_ftparchive_reads_the_pool(archive: Archive) -> None:
    """apt-ftparchive finds in the pool what Packages says, in the same words but for the digests that it adds."""
    options = [f"-oAPT::FTPArchive::{name}=false" for name in ("MD5", "SHA1", "SHA512")]
    command = ["apt-ftparchive", *options, "packages", "pool"]
    done = subprocess.run(command, cwd=archive.directory, capture_output=True, check=True)
    ours = b"".join(record.text + b"\n\n" for record in archive.tree.records(PACKAGES))
    assert sorted(done.stdout.split(b"\n\n")) == sorted(ours.split(b"\n\n"))


def test_apt_ftparchive_finds_the_digests(archive: Archive) -> None:
    """The digests of our Release are those that apt-ftparchive finds in the folder."""
    command = ["apt-ftparchive", "-oAPT::FTPArchive::MD5=false", "release", "."]
    done = subprocess.run(command, cwd=archive.dists, capture_output=True, text=True, check=True)
    row = re.compile(r"^ ([0-9a-f]{64}) +(\d+) (\S+\.(?:xz|gz))$", re.MULTILINE)
    ours = set(row.findall((archive.dists / "Release").read_text()))
    assert len(ours) == 6
    assert ours <= set(row.findall(done.stdout))


@needs("reprepro")
@pytest.mark.parametrize("scheme", ["file", "http"])
def test_reprepro_takes_packages_from_it(archive: Archive, tmp_path: Path, scheme: str) -> None:
    """reprepro mirrors it, the signature verified."""
    home, mirror = tmp_path / "gnupg", tmp_path / "mirror"
    home.mkdir(mode=0o700)
    environment = {**os.environ, "GNUPGHOME": str(home)}
    subprocess.run(["gpg", "--batch", "--import"], input=key().certificate.encode(), env=environment, check=True)
    (mirror / "conf").mkdir(parents=True)
    with served(archive.directory) as (url, _):
        method = url if scheme == "http" else f"file:{archive.directory}"
        (mirror / "conf/distributions").write_text(
            "Codename: bookworm\nComponents: main\nArchitectures: amd64 source\nUpdate: mine\n"
        )
        (mirror / "conf/updates").write_text(
            f"Name: mine\nMethod: {method}\nSuite: bookworm\nComponents: main\nArchitectures: amd64 source\n"
            f"VerifyRelease: {key().fingerprint[-16:]}!+\n"  # A subkey of it signs.
        )
        command = ["reprepro", "-b", str(mirror), "update"]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, check=True)
    told = done.stdout + done.stderr
    assert done.returncode == 0 and "warning" not in told.lower() and "error" not in told.lower(), told
    listed = subprocess.run(["reprepro", "-b", mirror, "list", "bookworm"], capture_output=True, text=True, check=True)
    assert sorted(listed.stdout.split("\n")) == [
        "",
        "bookworm|main|amd64: bash 5.2-1",
        "bookworm|main|amd64: hello 1.0",
        "bookworm|main|source: hello 1.0",
    ]
    assert (mirror / "pool/main/h/hello/hello_1.0_amd64.deb").exists()


@needs("debootstrap")
def test_debootstrap_reads_it(archive: Archive, tmp_path: Path) -> None:
    """debootstrap verifies the suite, and finds in it what it would install."""
    add_deb(archive, tmp_path / "debs", "apt", fields="Section: admin\nPriority: important")
    ring = tmp_path / "keyring.gpg"
    with ring.open("wb") as stream:
        subprocess.run(["gpg", "--dearmor"], input=key().certificate.encode(), stdout=stream, check=True)
    root = tmp_path / "root"
    script = "/usr/share/debootstrap/scripts/bookworm"
    command = ["debootstrap", "--print-debs", "--variant=minbase", "--arch=amd64", f"--keyring={ring}"]
    with served(archive.directory) as (url, _):
        done = subprocess.run([*command, "bookworm", root, url, script], capture_output=True, text=True, check=False)
    told = done.stdout + done.stderr
    assert done.returncode == 0, told
    assert not re.search(r"^[WE]:", told, re.MULTILINE), told
    assert {"hello", "bash", "apt"} <= set(done.stdout.split())


@needs("mmdebstrap")
def test_mmdebstrap_reads_it(archive: Archive, tmp_path: Path) -> None:
    """mmdebstrap downloads packages from it into a root of its own."""
    ring = tmp_path / "key.asc"
    ring.write_text(key().certificate)
    source = f"deb [signed-by={ring}] copy:{archive.directory} bookworm main"
    command = ["mmdebstrap", "--variant=extract", "--include=hello,bash", "--format=tar"]
    command += ["--mode=root" if os.getuid() == 0 else "--mode=unshare", '--aptopt=APT::Sandbox::User "root"']
    target = str(tmp_path / "root.tar")
    done = subprocess.run([*command, "bookworm", target, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if re.match(r"[WE]:", line) and "mounting" not in line]
    assert not warned, done.stderr  # (It mounts nothing in a root that lacks the folders for that, and says so.)
    listed = subprocess.run(["tar", "--list", "--file", target], capture_output=True, text=True, check=True)
    assert "./usr/bin/hello" in listed.stdout.split()


def test_apt_in_a_loop(archive: Archive, tmp_path: Path) -> None:
    """apt that updates again and again through a hundred publications never sees a mismatch."""
    stop = threading.Event()

    def publish() -> None:
        for number in range(100):
            archive.publish(put(PACKAGES, [package(f"package{number}")[0]]))
        stop.set()

    updates = 0
    with served(archive.directory) as (url, _):
        apt = Apt(tmp_path / "apt", url, "bookworm")
        thread = threading.Thread(target=publish)
        thread.start()
        try:
            while not stop.is_set():
                apt.update()
                updates += 1
        finally:
            thread.join()
        apt.update()
    assert updates > 3 and len(apt.packages()) == 102
