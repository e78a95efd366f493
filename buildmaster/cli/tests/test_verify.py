"""Signed statements of what was built from what, and files checked by them."""

import hashlib
import json
from pathlib import Path

import pytest

from buildmaster import attesting
from buildmaster.cli.tests.conftest import Cli, end, start
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event
from buildmaster.tests import databases

DEB = "hello_1.0_amd64.deb"
BUILDINFO = f"""Format: 1.0
Source: hello
Architecture: amd64
Version: 1.0
Checksums-Sha256:
 {hashlib.sha256(b"a package").hexdigest()} 9 {DEB}
Build-Architecture: amd64
Installed-Build-Depends: gcc (= 4:12.2.0-3), make (= 4.3-4.1)
"""
FILES = {DEB: b"a package", "hello_1.0_amd64.buildinfo": BUILDINFO.encode()}


@pytest.fixture
def built(ready: Cli, farm: Farm, dsc: Path) -> Farm:
    """The farm after build 1 ended well."""
    ready("submit", dsc)
    start(farm, 1)
    end(farm, 1, Event.SUCCEEDED, files=FILES)
    return farm


@pytest.fixture
def deb(tmp_path: Path) -> Path:
    """What it built, under another name."""
    path = tmp_path / "some.deb"
    path.write_bytes(FILES[DEB])
    return path


def elsewhere(ready: Cli, tmp_path: Path) -> Cli:
    """The command line where there is no farm."""
    return Cli(tmp_path / "no farm")


def test_verify(ready: Cli, built: Farm, deb: Path) -> None:
    """A file that the farm built is told so, with what it was built from, in what, and where."""
    out = ready("verify", deb).out
    assert "some.deb is what build 1 made, as urn:debfarm:farm:" in out
    assert "hello 1.0: hello_1.0.dsc, SHA-256 " in out
    assert "2 packages installed" in out
    assert "builder local" in out
    document = ready("verify", deb, "--json").json
    assert document["installed"] == ["pkg:deb/debian/gcc@4:12.2.0-3", "pkg:deb/debian/make@4.3-4.1"]
    assert (document["source"], document["build"], document["builder"]) == ("hello", "1", "local")


def test_verify_without_a_farm(ready: Cli, built: Farm, deb: Path, tmp_path: Path) -> None:
    """With the statement and the key in files nothing else is needed."""
    (tmp_path / "statement").write_text(ready("provenance", "statement", 1).out)
    (tmp_path / "key").write_text(ready("provenance", "key").out)
    words = ("verify", deb, "--statement", tmp_path / "statement", "--key", tmp_path / "key")
    assert "is what build 1 made" in elsewhere(ready, tmp_path)(*words).out


def test_verify_something_else(ready: Cli, built: Farm, deb: Path, tmp_path: Path) -> None:
    """Each way not to be what was built has its own words and its own exit status."""
    statement, key, other = (tmp_path / name for name in ("statement", "key", DEB))
    statement.write_text(ready("provenance", "statement", 1).out)
    key.write_text(ready("provenance", "key").out)
    other.write_bytes(b"another package")
    assert "this farm has built nothing of SHA-256" in ready("verify", other, status=3).err
    words = ("--statement", statement, "--key", key)
    assert f"{DEB} was built with SHA-256" in ready("verify", other, *words, status=6).err
    renamed = other.rename(tmp_path / "x.deb")
    assert "is not among what the statement is about: hello" in ready("verify", renamed, *words, status=6).err
    ready("provenance", "key", "--new")
    key.write_text(ready("provenance", "key").out)
    assert "signature of" in ready("verify", deb, *words, status=5).err
    assert "is what build 1 made" in ready("verify", deb).out  # By the farm, which knows its old key.
    statement.write_text(ready("provenance", "statement", 1).out[:-20])
    assert "is no signed statement of provenance: it is no JSON" in ready("verify", deb, *words, status=4).err
    statement.write_text("{}")
    assert "is no signed statement" in ready("verify", deb, *words, status=4).err
    key.write_text("no key")
    assert "cannot be used as a key" in ready("verify", deb, *words, status=1).err
    assert "does not exist" in ready("verify", tmp_path / "nothing.deb", status=2).err


def test_a_statement_that_lies(ready: Cli, built: Farm, deb: Path, tmp_path: Path) -> None:
    """A statement that was changed after it was signed is not believed."""
    statement, key = tmp_path / "statement", tmp_path / "key"
    document = json.loads(ready("provenance", "statement", 1).out)
    document["payload"] = ("A" if document["payload"][40] != "A" else "B").join(
        (document["payload"][:40], document["payload"][41:])
    )
    statement.write_text(json.dumps(document))
    key.write_text(ready("provenance", "key").out)
    err = ready("verify", deb, "--statement", statement, "--key", key, status=5).err
    assert "is not of this content" in err


def test_a_statement_is_made_once(ready: Cli, built: Farm) -> None:
    """It is made when it is first asked for, then kept; one that is lost is made again, with the same content."""
    first = ready("provenance", "statement", 1).out
    assert ready("provenance", "statement", 1).out == first
    with built.reading() as connection:
        users = attesting.statements(connection)
    assert len(users) == 1
    built.store.delete(users[0])
    assert ready("provenance", "statement", 1).out == first  # Signatures of Ed25519 know no chance.


def test_nothing_to_state(ready: Cli, farm: Farm, dsc: Path) -> None:
    """There is no statement about what was not built."""
    ready("submit", dsc)
    assert "build 1 is needs-build" in ready("provenance", "statement", 1, status=1).err
    assert "there is no build 2" in ready("provenance", "statement", 2, status=1).err


def test_a_buildinfo_that_is_none(ready: Cli, farm: Farm, dsc: Path, deb: Path) -> None:
    """A builder that wrote no .buildinfo that can be read does not keep the rest from being told."""
    ready("submit", dsc)
    start(farm, 1)
    end(farm, 1, Event.SUCCEEDED, files=FILES | {"hello_1.0_amd64.buildinfo": b"\xff"})
    assert "packages that nobody has listed installed" in ready("verify", deb).out


def test_the_key(ready: Cli, farm: Farm) -> None:
    """There is one key until another one is wanted; its secret part is for the farm's owner only."""
    first = ready("provenance", "key", "--json").json
    assert ready("provenance", "key").out == first["public_key"]
    (secret,) = (farm.directory / "secrets").glob("provenance-*")
    assert secret.stat().st_mode & 0o777 == 0o600
    second = ready("provenance", "key", "--new", "--json").json
    assert second["key_id"] != first["key_id"]
    assert [each["key_id"] for each in ready("provenance", "key", "--json").json["keys"]] == [
        first["key_id"],
        second["key_id"],
    ]


def test_a_key_that_is_elsewhere(ready: Cli, built: Farm) -> None:
    """Where the secret is missing, or is another, nothing is signed, and it is said what to do."""
    ready("provenance", "key")
    (secret,) = (built.directory / "secrets").glob("provenance-*")
    secret.write_text("ab" * 32)
    assert "is of another key. Copy it" in ready("provenance", "statement", 1, status=1).err
    secret.unlink()
    assert "is not there" in ready("provenance", "statement", 1, status=1).err
    ready("provenance", "key", "--new")
    assert ready("provenance", "statement", 1).out


@pytest.mark.skipif(databases.on_postgresql(), reason="tells of SQLite's directory")
def test_no_farm(ready: Cli, deb: Path, tmp_path: Path) -> None:
    """Without a farm, and without the files that would do, it is said that there is none."""
    assert "there is no farm" in elsewhere(ready, tmp_path)("verify", deb, status=1).err


def test_a_key_that_leaked(ready: Cli, built: Farm, deb: Path, tmp_path: Path) -> None:
    """What it has signed counts no more, whenever that was; the farm signs anew what is its own, by another key."""
    old = ready("provenance", "key", "--json").json["key_id"]
    (tmp_path / "old.pem").write_text(ready("provenance", "key").out)
    (tmp_path / "old").write_text(ready("provenance", "statement", 1).out)
    assert "is what build 1 made" in ready("verify", deb, "--statement", tmp_path / "old").out
    assert "begin with 'xxxxxxxx'" in ready("provenance", "key", "--revoke", "xxxxxxxx", status=1).err
    for words in ("", old[:7]):
        assert "too short for a key" in ready("provenance", "key", "--revoke", words, status=1).err
    document = ready("provenance", "key", "--revoke", old[:8], "--json").json
    assert document["key_id"] != old
    assert [bool(each["revoked_at"]) for each in document["keys"]] == [True, False]
    said = ready("verify", deb, "--statement", tmp_path / "old", status=5).err
    assert f"it is signed by {old}, which was revoked: ask the farm for the statement anew" in said
    (tmp_path / "new").write_text(ready("provenance", "statement", 1).out)
    assert f"as urn:debfarm:farm:{old} has signed" in ready("verify", deb).out  # What the farm is called stays.
    assert "is what build 1 made" in ready("verify", deb, "--statement", tmp_path / "new").out
    assert old in ready("verify", deb, "--statement", tmp_path / "new", "--key", tmp_path / "old.pem", status=5).err
    assert ready("provenance", "key", "--json").json == document
    assert len(list(built.directory.rglob("provenance-*"))) == 2
