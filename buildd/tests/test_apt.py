"""What apt's words mean, and what it is given. The lines are apt's own, of Debian 12."""

import shutil
import subprocess
from pathlib import Path

import pytest

from buildd.apt import (
    CONFIGURATION,
    answered_beside,
    archive_roots,
    beside,
    build_dep,
    did_not_answer,
    had_no_space,
    ignored_failures,
    preferences,
    resolved,
    split_credentials,
    with_credentials,
)
from buildd.protocol import ProtocolError
from buildd.tests.small_archive import OwnApt, SmallArchive

FETCHED = """\
Reading package lists...
The following NEW packages will be installed:
  debhelper
0 upgraded, 1 newly installed, 0 to remove and 0 not upgraded.
Need to get 503 MB of archives.
Get:1 http://deb.debian.org/debian bookworm/main amd64 debhelper all 13.11.4 [1,504 B]
Fetched 503 MB in 1s (500 kB/s)
"""
INDEX = "E: Some index files failed to download. They have been ignored, or old ones used instead.\n"


@pytest.mark.parametrize(
    "words",
    [
        "Err:1 http://127.0.0.1:9/x ./ InRelease\n"
        "  Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)\n",
        "E: Failed to fetch http://127.0.0.1:9/x/./InRelease  Could not connect to 127.0.0.1:9 (127.0.0.1)."
        " - connect (111: Connection refused)\n",
        "Err:1 http://10.0.0.1/x ./ InRelease\n  Could not connect to 10.0.0.1:80 (10.0.0.1), connection timed out\n",
        "Err:1 http://deb.debian.org/debian bookworm InRelease\n  Temporary failure resolving 'deb.debian.org'\n",
        "Err:3 http://127.0.0.1/x ./ Packages\n  503  Service Unavailable [IP: 127.0.0.1 80]\n",
        "E: Failed to fetch http://127.0.0.1/x/./Packages  502  Bad Gateway [IP: 127.0.0.1 80]\n",
        "E: Failed to fetch http://127.0.0.1/x/./Packages  503   [IP: 127.0.0.1 80]\n",
        "E: Failed to fetch http://127.0.0.1/x/./Packages.xz  Hash Sum mismatch\n   Hashes of expected file:\n",
        "E: Failed to fetch http://127.0.0.1/x/./Packages.xz  File has unexpected size (5 != 6). Mirror sync in"
        " progress? [IP: 127.0.0.1 80]\n   Hashes of expected file:\n",
        "E: Failed to fetch http://127.0.0.1/x/pool/a.deb  Error reading from server. Remote end closed connection"
        " [IP: 127.0.0.1 80]\n",
        "E: Failed to fetch http://127.0.0.1/x/pool/a_1_all.deb  404  Not Found [IP: 127.0.0.1 80]\n",
        "E: Failed to fetch http://127.0.0.1/x/pool/a_1%2b2_all.deb  403  Forbidden by the builder\n",
    ],
)
def test_an_archive_that_does_not_answer_is_worth_another_try(words: str) -> None:
    """Connections, names, servers in trouble, and archives in mid-change, or that do not have what they list."""
    assert did_not_answer(FETCHED + words + INDEX)


@pytest.mark.parametrize(
    "words",
    [
        "",
        "E: Failed to fetch http://127.0.0.1/x/./Packages  404  Not Found [IP: 127.0.0.1 80]\n",
        "E: Failed to fetch http://127.0.0.1/x/./Packages  401  Unauthorized [IP: 127.0.0.1 503]\n",
        "E: The repository 'http://127.0.0.1/debian bookworm Release' does not have a Release file.\n",
        "W: GPG error: http://127.0.0.1/debian x InRelease: The following signatures couldn't be verified because"
        " the public key is not available: NO_PUBKEY 0E98404D386FA1D9\n"
        "E: The repository 'http://127.0.0.1/debian bookworm InRelease' is not signed.\n",
        "E: Malformed entry 1 in list file /etc/apt/sources.list (Component)\n"
        "E: The list of sources could not be read.\n",
        "E: Unable to locate package libnone-dev\n",
        "Get:2 http://127.0.0.1/ bookworm/main amd64 503  Service [503 B]\n",
        "debfarm: dpkg begins\nSetting up evil (1) ...\nE: Failed to fetch x  503  Service Unavailable\n",
        "E: Failed to fetch http://127.0.0.1/x/y.deb/Packages  404  Not Found [IP: 127.0.0.1 80]\n",
        "debfarm: dpkg begins\nErr:1 x\n  Could not connect to x\nE: Sub-process dpkg returned an error code\n",
    ],
)
def test_other_failures_are_not_the_networks(words: str) -> None:
    """What would fail again, sizes and names that look like a status, and what a package's scripts write."""
    assert not did_not_answer(FETCHED + words + INDEX)


def test_apt_finds_the_disk_too_small() -> None:
    """Its own words count, a script's do not."""
    assert had_no_space(FETCHED + "E: You don't have enough free space in /var/cache/apt/archives/.\n")
    assert had_no_space("E: Write error - write (28: No space left on device)\n")
    assert not had_no_space(FETCHED + "debfarm: dpkg begins\nE: No space left on device\n")


def test_credentials_are_kept_apart() -> None:
    """sources.list has no password, and auth.conf has those for just these places, the most particular first."""
    lines, auth = split_credentials(
        [
            "deb http://ppa.example/open bookworm main",
            "deb [trusted=yes] http://ann:se%2Bcret@ppa.example/private bookworm main",
            "deb-src https://bob:p@ss:word@ppa.example:8443/private/more/ ./",
            "deb https://tok@en.example/ ./",
        ]
    )
    assert lines == (
        "deb http://ppa.example/open bookworm main",
        "deb [trusted=yes] http://ppa.example/private bookworm main",
        "deb-src https://ppa.example:8443/private/more/ ./",
        "deb https://en.example/ ./",
    )
    assert auth == (
        "machine https://ppa.example:8443/private/more/ login bob password p@ss:word\n"
        "machine http://ppa.example/private/ login ann password se+cret\n"
        "machine https://en.example/ login tok\n"
    )
    assert split_credentials(["deb http://ppa.example/open bookworm main"])[1] == ""


@pytest.mark.parametrize("credentials", ["a%20b:c", "a:b%20c", "a:b%0Amachine", ":x"])
def test_credentials_that_auth_conf_cannot_hold_are_refused(credentials: str) -> None:
    """Its words end at white space; the message does not repeat the password."""
    with pytest.raises(ProtocolError, match="item 0") as refused:
        split_credentials([f"deb http://{credentials}@ppa.example/ ./"])
    assert credentials not in str(refused.value)


def test_scripts_of_packages_see_no_credentials() -> None:
    """They run as root beside apt, and what they write is kept in layers: all is fetched by then, and the file gone."""
    archive = SmallArchive()
    archive.add("one")
    archive.publish()
    own = OwnApt(archive.line, options=tuple(line for line in CONFIGURATION.splitlines() if "Invoke" in line))
    dpkg, seen = own.root / "dpkg", own.root / "seen"
    dpkg.write_text(f"#!/bin/sh\necho $* >>{seen}\nls /dev/shm/debfarm-auth.conf >>{seen} 2>&1\n")
    dpkg.chmod(0o755)
    archive.password = "me:secret"
    try:
        for command in ("update", "install one"):
            words = ("apt-get", "-y", "-o", f"Dir::Bin::dpkg={dpkg}", *command.split())
            stdin = f"machine {archive.url} login me password secret\n"
            ended = subprocess.run(
                with_credentials(words), input=stdin, env=own.environment, text=True, capture_output=True, check=False
            )
        assert ("/pool/one_1.0_all.deb", 200) in archive.requests, ended.stdout
        assert "debfarm: dpkg begins" in ended.stdout
        _, began, rest = seen.read_text().partition("--unpack")
        assert began
        assert "/dev/shm/debfarm-auth.conf\n" not in rest
    finally:
        Path("/dev/shm/debfarm-auth.conf").unlink(missing_ok=True)
        own.close()
        archive.close()


def test_lists_that_old_versions_of_apt_go_without() -> None:
    """They end well all the same, with whatever lists there were before."""
    words = "W: Failed to fetch http://h/x/InRelease  Could not connect to h:80\nW: Some index files failed.\n"
    assert ignored_failures(words)
    assert did_not_answer(words)
    assert not ignored_failures(f"{FETCHED}W: Target Packages is configured multiple times\n")


def test_an_archive_may_be_renamed() -> None:
    """A fresh chroot would take it as it is now; what is kept must not be worse."""
    assert 'Acquire::AllowReleaseInfoChange "true";' in CONFIGURATION


def test_a_command_with_credentials_keeps_its_arguments() -> None:
    """The option that names the file comes before the verb."""
    assert with_credentials(("apt-get", "-q", "update"))[4:] == (
        "apt-get",
        "-o",
        "Dir::Etc::netrc=/dev/shm/debfarm-auth.conf",
        "-q",
        "update",
    )


def test_what_apt_would_install_is_named_exactly() -> None:
    """Name, version and architecture of each; epochs as they are, and other architectures' as well."""
    words = (
        "Reading package lists...\nNote, using file '/x.dsc' to get the build dependencies\n"
        "'http://h/debian/pool/main/z/zlib/zlib1g_1.3-1_arm64.deb' zlib1g_1%3a1.3-1_arm64.deb 85240 SHA256:ab\n"
        "'http://h/debian/pool/main/a/autotools-dev/autotools-dev_2%2b1_all.deb' autotools-dev_2%2b1_all.deb 51564 \n"
    )
    assert resolved(words) == ["autotools-dev_2+1_all", "zlib1g_1:1.3-1_arm64"]
    assert resolved("Reading package lists...\n") == []


ASKED = "'http://h/one_1_all.deb' one_1_all.deb 1 SHA256:ab"
NOTHING_DONE = "0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded."


@pytest.mark.parametrize(
    ("upgrade", "question", "answer"),
    [
        (f"echo '{NOTHING_DONE}'", f'printf %s\\n "{ASKED}"', ["one_1_all"]),
        (f"echo '{NOTHING_DONE}'", "sleep 0.1; echo no package", []),
        (f"echo '{NOTHING_DONE}'", f'printf %s\\n "{ASKED}"; exit 100', None),
        (f"echo '{NOTHING_DONE}'", "echo \\'nonsense", None),
        ("echo '1 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.'", "true", None),
        (f"echo 'debfarm: dpkg begins'; echo '{NOTHING_DONE}'", "true", None),
    ],
    ids=["packages", "none", "failed", "nonsense", "upgraded", "a script's words"],
)
def test_what_is_asked_beside_an_upgrade(tmp_path: Path, upgrade: str, question: str, answer: list[str] | None) -> None:
    """It counts when apt has answered, and nothing was upgraded."""
    command = beside(("sh", "-c", f"cat; {upgrade}; exit 7"), ("sh", "-c", question))
    elsewhere = [word.replace("/dev/shm/", f"{tmp_path}/") for word in command]
    ended = subprocess.run(elsewhere, input="input\n", capture_output=True, text=True, check=False)
    assert (tmp_path / "beside").exists()
    assert (ended.returncode, ended.stdout.splitlines()[0]) == (7, "input")
    assert answered_beside(ended.stdout) == answer


def test_an_answer_that_was_cut_off_is_none() -> None:
    """Its last packages may be missing."""
    assert (
        answered_beside(f"{NOTHING_DONE}\ndebfarm: what a build needs, as long as nothing is upgraded:\n{ASKED}\n")
        is None
    )


def test_what_is_not_apts_names_no_package() -> None:
    """A chroot whose apt writes something else is not guessed at."""
    with pytest.raises(ValueError, match="not a line of"):
        resolved("'http://h/x.deb' ../../x_1_all.deb 1 SHA256:ab\n")


def test_packages_that_a_chroot_has_in_its_cache_are_resolved_as_others_are(tmp_path: Path) -> None:
    """apt would not fetch them, and so does not name them; but a layer is known by what is in it."""
    archive = SmallArchive()
    for name in ("one", "two"):
        archive.add(name)
    archive.publish()
    own = OwnApt(archive.line)
    dsc = own.root / "wanted.dsc"
    dsc.write_text("Format: 1.0\nSource: x\nVersion: 1\nArchitecture: all\nBinary: x\nBuild-Depends: one, two\n")
    try:
        own.update()
        (own.root / "var/lib/dpkg/status").write_text(
            "Package: build-essential\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n"
            "Maintainer: x\nDescription: x\n"
        )
        for cached in ("nothing", "one_1.0_all.deb"):
            if (deb := archive.folder / "files/pool" / cached).exists():
                shutil.copy(deb, own.root / "var/cache/apt/archives")
            ended = own.run(*build_dep(str(dsc), resolve=True))
            assert ended.returncode == 0, ended.stderr
            assert resolved(ended.stdout) == ["one_1.0_all", "two_1.0_all"]
    finally:
        own.close()
        archive.close()


def test_where_a_chroots_own_archives_are() -> None:
    """Above dists/; of an archive without that it is the host, as apt tells no more. Each is named once."""
    words = (
        "'http://h/debian/dists/bookworm/InRelease' h_debian_dists_bookworm_InRelease 0 \n"
        "'http://h/debian/dists/bookworm-updates/InRelease' h_debian_dists_bookworm-updates_InRelease 0 \n"
        "'https://i:8443/a/b/./InRelease' i:8443_a_b_._InRelease 0 \n"
    )
    assert archive_roots(words) == ["http://h/debian/", "https://i:8443/"]
    assert archive_roots("") == []


def test_preferences() -> None:
    """One entry for each package, with a priority by which apt goes back to an older version, too."""
    assert preferences(["a=1.0-1", "b:i386=2:1~"]).split("\n\n") == [
        "Package: a\nPin: version 1.0-1\nPin-Priority: 1001",
        "Package: b:i386\nPin: version 2:1~\nPin-Priority: 1001\n",
    ]
