"""What the commands of the group `archive` do, on a farm with no master."""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from sqlalchemy import Connection

from buildmaster import distributions, entering, publications, repositories
from buildmaster.cli import client_setup
from buildmaster.cli.archive import COMMANDS
from buildmaster.cli.tests.conftest import Cli, make_source
from buildmaster.config import MasterConfig
from buildmaster.farm import Farm
from buildmaster.repositories import Settings
from buildmaster.secrets import Secrets
from buildmaster.tests.gpg import Keys
from buildmaster.tests.test_archive_keys import expiring
from buildmaster.tests.test_publications import deb


@pytest.fixture
def mine(ready: Cli) -> Cli:
    """A farm that publishes debian/mine."""
    ready("archive", "create", "mine")
    return ready


def submitted(cli: Cli, folder: Path, farm: Farm, version: str = "1.0") -> None:
    """hello, with a package that was built of it."""
    dsc = make_source(folder, version=version, content=version.encode())
    source = cli("submit", dsc, "--archive", "mine", "--json").json
    build_id = source["builds"][0]["id"]
    with farm.reading() as connection:
        archive_id = distributions.find_archive(connection, "debian", "mine")
        found = publications.named(connection, archive_id, "hello")
    source_id = next(each.source_id for each in found if each.version == version)
    farm.write(entering.add_binaries, source_id, build_id, [deb(farm, version=version)], time.time())


def test_every_command_has_help_with_an_example(cli: Cli) -> None:
    """Each tells what it is for, and how to call it."""
    for name in COMMANDS:
        out = cli("archive", name, "--help").out
        assert "Example" in out and f"buildmaster archive {name}" in out
        assert "--json" in out or "COMMAND [ARGS]" in out


def test_created(ready: Cli) -> None:
    """What is printed is what dput and apt take; the key's secret part is a secret; show says it again."""
    said = ready("archive", "create", "mine", "--keep-versions", "1").out
    assert "archive debian/mine is published at http://127.0.0.1:8230/debian/mine, keeps 1 older version" in said
    assert "[mine]\nmethod = ftp\nfqdn = 127.0.0.1:8231\nlogin = anonymous\n" in said
    assert "[mine-http]\nmethod = http\nfqdn = 127.0.0.1:8230\nincoming = /upload/debian/mine\n" in said
    assert "URIs: http://127.0.0.1:8230/debian/mine\nSuites: bookworm\nComponents: main\n" in said
    assert (
        "\ndeb [signed-by=/etc/apt/keyrings/debian-mine.asc] http://127.0.0.1:8230/debian/mine bookworm main\n" in said
    )
    assert ready("archive", "show", "debian/mine").out == said
    document = ready("archive", "show", "mine", "--json").json
    (fingerprint,) = document["keys"]
    (secret,) = ready.directory.parent.rglob("secrets/archive-key-*")
    assert secret.name == f"archive-key-{fingerprint.lower()}" and secret.stat().st_mode & 0o77 == 0
    assert (document["keep_versions"], document["suites"], document["hold_deadline_s"]) == (1, ["bookworm"], None)
    listed = ready("archive", "list", "--json").json["archives"]
    assert [each["name"] for each in listed] == ["mine"]


def test_what_is_still_to_be_done(ready: Cli) -> None:
    """An archive that is new says what it lacks, and no more than that; a wrong name, what is a right one."""
    said = ready("archive", "create", "mine").err
    assert "buildmaster archive uploader add debian/mine FILE" in said and "No master runs" in said
    certificate = ready.directory.parent / "ada.asc"
    certificate.write_bytes(Keys().make("ada"))
    ready("archive", "uploader", "add", "mine", certificate)
    assert ready("archive", "show", "mine").err == ""
    assert "letters, digits" in ready("archive", "create", "my archive", status=1).err
    assert "`buildmaster archives` lists them" in ready("archive", "show", "yours", status=1).err


def test_what_dput_is_told() -> None:
    """Each way in that is configured has its section; the first is one that every dput can go."""
    port_80 = client_setup.for_dput(MasterConfig(archives_base_url="http://packages.example.org/farm"), "debian/mine")
    assert port_80 == (
        "[mine]\nmethod = http\nfqdn = packages.example.org\nincoming = /farm/upload/debian/mine\n"
        "allow_unsigned_uploads = 0"
    )
    all_ways = client_setup.for_dput(MasterConfig(ftp_port=2121, sftp_port=2222), "debian/mine")
    ftp = "method = ftp\nfqdn = 127.0.0.1:2121\nlogin = anonymous\npassive_ftp = 1\nincoming = /upload/debian/mine"
    assert all_ways.startswith(f"[mine]\n{ftp}\n\n#")
    assert "Not for dput of Debian 13 (1.2), which knows no port but with FTP\n[mine-http]\nmethod = http\n" in all_ways
    sftp = "[mine-sftp]\nmethod = sftp\nfqdn = 127.0.0.1\nport = 2222\nlogin = anybody\n"
    assert f"ssh_config_options = Port 2222\n{sftp}" in all_ways
    away = MasterConfig(archives_base_url="https://packages.example.org", uploads_host="0.0.0.0", ftp_port=2121)
    assert f"\n\n[mine-ftp]\n{ftp}".replace("127.0.0.1", "packages.example.org") in client_setup.for_dput(
        away, "debian/mine"
    )
    without = client_setup.for_dput(MasterConfig(ftp_port=None), "debian/mine")
    assert "which knows no port but with FTP\n[mine]\nmethod = http\n" in without


def test_an_archive_that_is_there(ready: Cli, tmp_path: Path) -> None:
    """It is published, with what it has; twice is refused, and so is one of a distribution that has no series."""
    ready("submit", make_source(tmp_path / "1"))
    assert "taken in: 1 source, 0 packages" in ready("archive", "create", "primary").out
    assert ready("archive", "adopt", "primary", "--json").json == {"sources": 0, "packages": 0, "left": []}
    assert "published already" in ready("archive", "create", "primary", status=1).err
    ready("init", "--distribution", "ubuntu")
    assert "add-chroot ubuntu/SERIES" in ready("archive", "create", "ubuntu/mine", status=1).err
    ready("add-archive", "debian/elsewhere")
    assert "`buildmaster archive create` lets it" in ready("archive", "show", "debian/elsewhere", status=1).err


def test_changed(mine: Cli) -> None:
    """What was said is changed, the rest stays."""
    said = mine("archive", "change", "mine", "--hold", "--hold-deadline", "12h", "--valid", "7d", "--binaries").out
    assert "binary uploads, holds until all architectures are there, 12 h at most, valid for 168 h" in said
    document = mine("archive", "change", "mine", "--private", "--hold-deadline", "never", "--json").json
    assert document["private"]
    assert (document["hold"], document["hold_deadline_s"], document["valid_s"]) == (True, None, 7 * 86400.0)


def test_times(mine: Cli) -> None:
    """`never` means what it says, or is refused: it does not end a key, or remove files, at once."""
    for words in (
        ("clean", "mine", "--older-than"),
        ("clean", "mine", "--forget"),
        ("key", "rotate", "mine", "--overlap"),
    ):
        assert "is not a duration" in mine("archive", *words, "never", status=2).err
    (key,) = mine("archive", "key", "show", "mine", "--json").json["keys"]
    assert key["signs_until"] is None
    mine("archive", "key", "rotate", "mine", "--overlap", "none")
    assert len(mine("archive", "show", "mine", "--json").json["keys"]) == 1
    assert "at least 10 minutes" in mine("archive", "change", "mine", "--valid", "40s", status=1).err


def test_published_and_moved(mine: Cli, farm: Farm, tmp_path: Path) -> None:
    """Published here and now; copied to another archive and suite, promoted, deleted; apt verifies each."""
    submitted(mine, tmp_path / "1", farm)
    assert (
        mine("archive", "publish", "mine").out
        == "debian/mine bookworm: generation 1, 2 packages new, 0 packages gone\n"
    )
    listed = mine("archive", "packages", "mine", "--json").json["packages"]
    assert [(each["package"], each["architecture"], each["state"]) for each in listed] == [
        ("hello", "source", "published"), ("hello", "amd64", "published"),
    ]  # fmt: skip
    mine("archive", "create", "stable")
    told = mine("archive", "copy", "mine", "hello", "--to", "bookworm-proposed", "--to-archive", "stable").out
    assert told == "hello 1.0: 2 packages copied\n"
    told = mine("archive", "promote", "stable", "hello", "--to", "bookworm", "--json").json
    assert told == {"sources": [{"source": "hello", "version": "1.0", "packages": 2}]}
    mine("archive", "publish", "stable")
    root = mine.directory / "archives" / "debian" / "stable" / "dists"
    packages = (root / "bookworm" / "main" / "binary-amd64" / "Packages.gz").read_bytes()
    assert packages != b""
    listed = mine("archive", "packages", "stable").out
    assert "bookworm-proposed" not in listed and "published" in listed
    mine("archive", "delete", "stable", "hello", "--reason", "broken")
    mine("archive", "publish", "stable")
    assert mine("archive", "packages", "stable").out == ""
    assert "broken" in mine("archive", "packages", "stable", "hello", "--all").out
    assert "is not published there" in mine("archive", "copy", "stable", "hello", "--to-archive", "mine", status=1).err
    assert "there already" in mine("archive", "copy", "mine", "hello", status=1).err
    assert "there is no suite 'sid'" in mine("archive", "copy", "mine", "hello", "--to", "sid", status=1).err
    mine("archive", "change", "mine", "--private")
    assert "everybody may read" in mine("archive", "copy", "mine", "hello", "--to-archive", "stable").err


def test_a_suite_that_is_not_there(mine: Cli) -> None:
    """It says so: of one in which nothing ever was, and of one that there cannot be."""
    said = mine("archive", "publish", "mine", "--suite", "bookworm-updates", status=1).err
    assert "nothing was ever in bookworm-updates; there are: bookworm" in said
    assert "there is no suite 'sid'; there are: " in mine("archive", "publish", "mine", "--suite", "sid", status=1).err
    assert "generation 1" in mine("archive", "publish", "mine", "--suite", "bookworm").out


def test_what_is_deleted_is_not_built(mine: Cli, tmp_path: Path) -> None:
    """Its builds that wait are off the queue, with the reason."""
    mine("submit", make_source(tmp_path / "1"), "--archive", "mine")
    mine("archive", "delete", "mine", "hello", "--reason", "not wanted")
    assert mine("queue").out == ""
    assert "its source was deleted: not wanted" in mine("show", 1).out


def test_held(mine: Cli, farm: Farm, tmp_path: Path) -> None:
    """A version waits until somebody lets it go."""
    mine("archive", "hold", "mine", "hello", "--on")
    submitted(mine, tmp_path / "1", farm)
    mine("archive", "publish", "mine")
    assert mine("archive", "packages", "mine").out.count(" held ") == 2
    assert "still waits for amd64" in mine("archive", "release", "mine", "hello", "--without", "armhf").out
    assert mine("archive", "release", "mine", "hello").out == "hello 1.0: is published\n"
    mine("archive", "publish", "mine")
    assert mine("archive", "packages", "mine").out.count(" published ") == 2
    assert "nothing of hello is held" in mine("archive", "release", "mine", "hello", status=1).err


def test_snapshots(mine: Cli, farm: Farm, tmp_path: Path) -> None:
    """Taken, listed, dropped; one has what has left the archive since."""
    submitted(mine, tmp_path / "1", farm)
    mine("archive", "publish", "mine")
    taken = mine("archive", "snapshot", "take", "mine", "--json").json["snapshot"]
    assert re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", taken)
    mine("archive", "delete", "mine", "hello")
    mine("archive", "publish", "mine")
    folder = mine.directory / "archives" / "debian" / "mine" / "snapshot" / taken
    assert (folder / "dists" / "bookworm" / "InRelease").exists()
    assert (folder / "pool" / "main" / "h" / "hello" / "hello_1.0_amd64.deb").exists()
    assert taken in mine("archive", "snapshot", "list", "mine").out
    mine("archive", "snapshot", "drop", "mine", taken)
    assert not folder.exists() and mine("archive", "snapshot", "list", "mine").out == ""
    assert "no snapshot" in mine("archive", "snapshot", "drop", "mine", taken, status=1).err


@pytest.mark.skipif(not (shutil.which("gpgv") and shutil.which("gpg")), reason="gpg and gpgv are not installed")
def test_keys(mine: Cli, farm: Farm, tmp_path: Path) -> None:
    """After a rotation who has the old key or the new one verifies; after the overlap, the new one alone."""
    old = mine("archive", "key", "export", "mine").out
    new = mine("archive", "key", "rotate", "mine", "--overlap", "30d", "--json").json["fingerprint"]
    mine("archive", "publish", "mine")
    release = mine.directory / "archives" / "debian" / "mine" / "dists" / "bookworm" / "InRelease"
    (tmp_path / "old.asc").write_text(old)
    both = mine("archive", "key", "export", "mine").out
    (tmp_path / "both.asc").write_text(both)
    assert verified(tmp_path / "both.asc", release) == 2 and verified(tmp_path / "old.asc", release) == 1
    assert (release.parents[2] / "key.asc").read_text() == both
    every = mine("archive", "key", "show", "mine", "--json").json["keys"]
    assert [each["fingerprint"] == new for each in every] == [False, True]
    assert every[0]["signs_until"] is not None and every[1]["signs_until"] is None


def test_a_key_that_expires(mine: Cli, farm: Farm) -> None:
    """It is told before; then nothing is published, and nothing that was is touched, until there is another key."""
    key = expiring(Secrets(farm.directory / farm.places.secrets), 6)

    def give(connection: Connection) -> None:
        archive_id = distributions.find_archive(connection, "debian", "mine")
        repositories.add_key(connection, archive_id, key)

    farm.write(give)
    assert f"warning: the key {key.fingerprint} expires: it signs until " in mine("archive", "show", "mine").out
    assert "expires" in mine("archive", "publish", "mine", "--full").err
    release = mine.directory / "archives" / "debian" / "mine" / "dists" / "bookworm" / "InRelease"
    before = release.read_bytes()
    time.sleep(6.5)
    assert "has expired" in mine("archive", "show", "mine", "--json").json["warning"]
    said = mine("archive", "publish", "mine", "--full", status=1).err
    assert f"the key {key.fingerprint} has expired: it signs until " in said and "key rotate" in said
    assert release.read_bytes() == before
    assert mine("archive", "key", "show", "mine", "--json").json["keys"][-1]["expires_at"] is not None
    mine("archive", "key", "rotate", "mine")
    assert "expire" not in mine("archive", "publish", "mine").err + mine("archive", "show", "mine").out
    assert release.read_bytes() != before


def verified(keys: Path, release: Path) -> int:
    """By how many of these keys something is signed."""
    keyring = keys.with_suffix(".gpg")
    with keyring.open("wb") as stream:
        subprocess.run(["gpg", "--dearmor"], stdin=keys.open("rb"), stdout=stream, check=True, timeout=30)
    command = ["gpgv", "--status-fd", "1", "--keyring", str(keyring), str(release)]
    said = subprocess.run(command, capture_output=True, check=False, timeout=30).stdout
    return said.count(b" VALIDSIG ")


def test_what_was_kept(mine: Cli, farm: Farm, tmp_path: Path) -> None:
    """Versions that are kept are in the archive beside the newest."""
    with farm.reading() as connection:
        archive_id = distributions.find_archive(connection, "debian", "mine")
    farm.write(repositories.change, archive_id, Settings(keep_versions=1))
    for version in ("1.0", "1.1", "1.2"):
        submitted(mine, tmp_path / version, farm, version)
        mine("archive", "publish", "mine")
    listed = mine("archive", "packages", "mine", "--json").json["packages"]
    assert sorted({each["version"] for each in listed}) == ["1.1", "1.2"]
