"""Making a farm: init, add-chroot, add-builder."""

import base64
import random
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from buildmaster import orders
from buildmaster.cli.tests.conftest import STATUS, Cli, make_chroot, make_source
from buildmaster.farm import Farm
from buildmaster.tests import stores
from buildmaster.tests.factories import write_config

DEBIAN = ("init", "--distribution", "debian", "--series", "bookworm", "--architecture", "amd64")


def test_init_makes_a_private_farm(cli: Cli) -> None:
    """A farm's directory is for its owner only, and init says what to do next."""
    ended = cli(*DEBIAN)
    assert stat.S_IMODE(cli.directory.stat().st_mode) == 0o700
    assert "debian bookworm amd64 has no chroot yet" in ended.out
    assert f"buildmaster --dir {cli.directory} add-chroot debian/bookworm amd64 FILE.tar.gz" in ended.err


def test_init_with_a_store_that_cannot_be_used(cli: Cli, tmp_path: Path) -> None:
    """A farm whose files are in a bucket is ready when the bucket can be used, and not before."""
    path = tmp_path / "s3.conf"
    write_config(path, empty=True)
    database = path.read_text().partition("[store]")[0]
    path.write_text(f"{database}[store]\nurl = s3://farm-files\nendpoint = http://127.0.0.1:9\n")
    ended = cli("--config", path, "init", status=1)
    why = "secrets/s3-access-key: is not there" if stores.IN_A_FOLDER else "the server cannot be reached"
    assert why in ended.err and "ready" not in ended.out


def test_init_again_adds_what_is_new(cli: Cli) -> None:
    """Doing it again is harmless, and adds what is new."""
    once = cli(*DEBIAN, "--json").json
    assert cli(*DEBIAN, "--json").json == once
    cli("init", "--series", "trixie", "--architecture", "amd64", "--architecture", "arm64")
    places = cli("init", "--json").json["places"]
    assert [(each["series"], each["architecture"]) for each in places] == [
        ("bookworm", "amd64"),
        ("trixie", "amd64"),
        ("trixie", "arm64"),
    ]


def test_init_with_archive_lines(ready: Cli, farm: Farm, dsc: Path) -> None:
    """Archive lines reach the builder, with the suite of each series."""
    ready(
        *(*DEBIAN, "--archive-line", "deb http://deb.example/debian bookworm main contrib"),
        *("--archive-line", "deb [signed-by=/k.gpg] http://deb.example/debian bookworm-updates main"),
    )
    ready("add-chroot", "debian/trixie", "amd64", make_chroot(dsc.parent / "trixie.tar.gz"))
    found = []
    for series in ("bookworm", "trixie"):
        build_id = ready("submit", dsc, "--series", series, "--json").json["builds"][0]["id"]
        with farm.reading() as connection:
            found.append(orders.find(connection, build_id).sources.lines)
    assert found[0] == (
        "deb http://deb.example/debian bookworm main contrib",
        "deb [signed-by=/k.gpg] http://deb.example/debian bookworm-updates main",
    )
    assert found[1][1].endswith("trixie-updates main")


@pytest.mark.parametrize(
    "key", [b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nmQ==\n", b"\x99\x01\x0d" + bytes(100), b"\xc6\x33" + bytes(51)]
)
def test_init_with_trusted_keys(ready: Cli, farm: Farm, dsc: Path, key: bytes) -> None:
    """Keys reach the builder as base64, armored or not."""
    path = dsc.parent / "key"
    path.write_bytes(key)
    ready(*DEBIAN, "--trusted-key", path)
    build_id = ready("submit", dsc, "--series", "bookworm", "--json").json["builds"][0]["id"]
    with farm.reading() as connection:
        keys = orders.find(connection, build_id).arguments.trusted_keys
    assert [base64.b64decode(encoded) for encoded in keys] == [key]


@pytest.mark.parametrize(
    "content", [b"", b"no key", b"-----BEGIN PGP PRIVATE KEY BLOCK-----", b"\x95\x01", bytes(2 << 20)]
)
def test_what_is_no_public_key_is_refused(cli: Cli, tmp_path: Path, content: bytes) -> None:
    """A private key above all."""
    (tmp_path / "key").write_bytes(content)
    assert "no OpenPGP public key" in cli(*DEBIAN, "--trusted-key", tmp_path / "key", status=1).err


@pytest.mark.parametrize(
    "line", ["http://deb.example bookworm main", "deb nowhere bookworm main", "deb http://x y", ""]
)
def test_bad_archive_lines(cli: Cli, line: str) -> None:
    """What is no line of sources.list is refused before anything is made."""
    assert "sources.list" in (err := cli(*DEBIAN, "--archive-line", line, status=1).err) or "component" in err
    assert not cli.directory.exists()


def test_series_without_architecture(cli: Cli) -> None:
    """A series without an architecture is wrong usage."""
    assert "go together" in cli("init", "--series", "bookworm", status=2).err


@pytest.mark.parametrize("command", ["queue", "builds", "builders"])
def test_no_farm(cli: Cli, command: str) -> None:
    """Where there is no farm, commands say how to make one, and make nothing."""
    assert cli.how_to_make_it in cli(command, status=1).err
    assert not cli.directory.exists()


@pytest.mark.parametrize(
    ("name", "mode"), [("a.tar", "w"), ("a.tar.gz", "w:gz"), ("a.tar.xz", "w:xz"), ("a.tgz", "w:bz2")]
)
@pytest.mark.parametrize("top", ["", "./", "chroot-autobuild/", "./chroot-autobuild/"])
def test_chroots_of_every_kind(cli: Cli, tmp_path: Path, name: str, mode: str, top: str) -> None:
    """A chroot may be packed in several ways, with or without its one top folder."""
    cli(*DEBIAN)
    document = cli("add-chroot", "bookworm", "amd64", make_chroot(tmp_path / name, STATUS, top, mode), "--json").json
    assert len(document["place"]["chroot_sha256"]) == 64


@pytest.mark.skipif(shutil.which("zstd") is None, reason="the program zstd is not here")
def test_chroot_packed_by_zstd(cli: Cli, tmp_path: Path) -> None:
    """zstd is read through its program; what is cut short is noticed there, too."""
    cli(*DEBIAN)
    plain = make_chroot(tmp_path / "a.tar", STATUS + random.Random(1).randbytes(100_000), mode="w")
    subprocess.run(["zstd", "-q", plain], check=True)
    path = tmp_path / "a.tar.zst"
    cli("add-chroot", "bookworm", "amd64", path)
    for length in (path.stat().st_size - 10, 50_000, 20):
        path.write_bytes(path.read_bytes()[:length])
        assert "not a whole tar archive" in cli("add-chroot", "bookworm", "amd64", path, status=1).err


def test_no_debian_in_it(cli: Cli, tmp_path: Path) -> None:
    """A tarball of something else is refused, with what it lacks and how to make a good one."""
    cli(*DEBIAN)
    err = cli("add-chroot", "bookworm", "amd64", make_chroot(tmp_path / "a.tar.gz", top="deep/down/"), status=1).err
    assert "no var/lib/dpkg/status" in err
    assert "mmdebstrap" in err


def test_chroot_of_another_architecture(cli: Cli, tmp_path: Path) -> None:
    """A chroot whose dpkg is of another architecture is refused."""
    cli(*DEBIAN)
    path = make_chroot(tmp_path / "a.tar.gz", STATUS.replace(b"amd64", b"arm64"))
    assert "is a chroot for arm64, not for amd64" in cli("add-chroot", "bookworm", "amd64", path, status=1).err


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_chroot_cut_short(cli: Cli, tmp_path: Path, mode: str) -> None:
    """A tarball that is cut short is refused, wherever the cut is; --no-check takes it."""
    cli(*DEBIAN)
    path = make_chroot(tmp_path / "a.tar", STATUS + b"\n" * 5000, mode=mode)
    whole = path.read_bytes()
    for length in (len(whole) - 5, len(whole) // 2, 3) if mode != "w" else (3000, 100):
        path.write_bytes(whole[:length])
        assert "not a whole tar archive" in cli("add-chroot", "bookworm", "amd64", path, status=1).err
    cli("add-chroot", "bookworm", "amd64", path, "--no-check")


def test_chroot_releases_what_waited(cli: Cli, tmp_path: Path, dsc: Path) -> None:
    """What waited for a chroot is in the queue once there is one, and the command says how many."""
    cli(*DEBIAN)
    cli("submit", dsc)
    cli("submit", make_source(tmp_path / "other", "other"))
    assert cli("builds", "--json").json["builds"][0]["state"] == "chroot-wait"
    ended = cli("add-chroot", "bookworm", "amd64", make_chroot(tmp_path / "a.tar.gz"))
    assert "2 builds that waited for it: now in the queue" in ended.out
    assert {each["state"] for each in cli("builds", "--json").json["builds"]} == {"needs-build"}


def test_chroot_for_a_series_of_no_known_distribution(cli: Cli, tmp_path: Path) -> None:
    """A series that could belong to several distributions has to be given with its own."""
    cli("init")
    path = make_chroot(tmp_path / "a.tar.gz")
    assert "debian/bookworm" in cli("add-chroot", "bookworm", "amd64", path, status=1).err
    cli("add-chroot", "debian/bookworm", "amd64", path)
    cli("add-chroot", "ubuntu/noble", "amd64", path)
    cli("add-chroot", "bookworm", "amd64", path)
    assert "which distribution" in cli("add-chroot", "sid", "amd64", path, status=1).err


def test_add_builder_offline(cli: Cli) -> None:
    """A builder that is not up yet is added with the architecture it is said to have; again is harmless."""
    cli("init")
    assert "--offline needs --architecture" in cli("add-builder", "http://b:8221/", "--offline", status=2).err
    words = ("add-builder", "http://b:8221/rpc", "--offline", "--architecture", "amd64", "--json")
    first = cli(*words).json
    assert (first["name"], first["url"], first["architecture"]) == ("b", "http://b:8221/", "amd64")
    assert cli(*words).json == first
    other = cli("add-builder", "http://c:8221/", "--name", "b", "--offline", "--architecture", "amd64", status=1)
    assert "there is a builder 'b'" in other.err


@pytest.mark.parametrize("url", ["nonsense", "ftp://b:8221/", "http://b:x/", "http://"])
def test_add_builder_at_no_url(cli: Cli, url: str) -> None:
    """What is no URL of a builder is refused."""
    cli("init")
    assert "http://HOST:" in cli("add-builder", url, "--name", "b", status=1).err


HOSTS = ["user:s3cret@b", "b:0", "b:65536", "b:x", "b%", "b\u00fc", "[b]", "[::1", "b?x", "b#x", "b c"]


@pytest.mark.parametrize("host", HOSTS)
def test_add_builder_unasked_at_no_url(cli: Cli, host: str) -> None:
    """Nor is one taken unasked that no master could ever ask; a password in it is not shown."""
    cli("init")
    words = ("--name", "b", "--offline", "--architecture", "amd64")
    err = cli("add-builder", f"http://{host}/", *words, status=1).err
    assert "a builder's URL is http://HOST:PORT/" in err and "s3cret" not in err
    cli("add-builder", "http://[::1]:8221/rpc", *words)
