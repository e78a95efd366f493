"""What add-archive, change-archive, archives and score do."""

import base64
import time
from pathlib import Path

from buildmaster import depwaits, distributions, orders
from buildmaster.cli.tests.conftest import Cli, end, make_source, start
from buildmaster.farm import Farm
from buildmaster.lifecycle import Event


def test_an_archive(ready: Cli, tmp_path: Path) -> None:
    """It is added, changed and listed; what is built for it has its score."""
    said = ready("add-archive", "embargoed", "--private", "--needs", "large").out
    assert said == "archive debian/embargoed: ppa, score +0, weight 1, private, needs large\n"
    words = ("--archive", "embargoed", "--component", "contrib", "--urgency", "high")
    build = ready("submit", make_source(tmp_path, "fix"), *words, "--json").json["builds"][0]
    assert (build["archive"], build["score"]) == ("embargoed", 10000 + 1500 + 250 + 15)
    line = "deb http://deb.example/debian bookworm main"
    changed = ready(
        "change-archive", "debian/embargoed", "--public", "--relative-score", "-5", "--no-needs", "--weight", "2",
        "--archive-line", line, "--json",
    ).json  # fmt: skip
    assert (changed["private"], changed["relative_score"], changed["needs"]) == (False, -5, [])
    assert (changed["waiting"], changed["weight"], changed["archive_lines"]) == (1, 2.0, [line])
    assert ready("show", 1, "--json").json["score"] == 1500 + 250 + 15 - 5
    listed = ready("archives").out.splitlines()
    assert [line.split()[0] for line in listed] == ["ARCHIVE", "debian/embargoed", "debian/primary"]


def test_keys_for_archive_lines(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """An archive whose builds take packages from elsewhere has the keys of that place; both are taken back."""
    key, line = tmp_path / "key", "deb http://deb.example/debian SERIES main"
    key.write_bytes(b"\x99\x01\x0d" + bytes(100))
    told = ready("add-archive", "far", "--archive-line", line, "--trusted-key", key).out
    assert told == "archive debian/far: ppa, score +0, weight 1, 1 archive line, 1 trusted key\n"
    build_id = ready("submit", make_source(tmp_path, "fix"), "--archive", "far", "--json").json["builds"][0]["id"]
    with farm.reading() as connection:
        order = orders.find(connection, build_id)
    assert [base64.b64decode(each) for each in order.arguments.trusted_keys] == [key.read_bytes()]
    assert order.sources.lines == ("deb http://deb.example/debian bookworm main",)
    changed = ready("change-archive", "far", "--no-archive-lines", "--no-trusted-keys", "--json").json
    assert (changed["archive_lines"], changed["trusted_keys"]) == ([], 0)
    assert (
        "--no-trusted-keys" in ready("change-archive", "far", "--trusted-key", key, "--no-trusted-keys", status=2).err
    )
    key.write_bytes(b"-----BEGIN PGP PRIVATE KEY BLOCK-----")
    assert "no OpenPGP public key" in ready("change-archive", "far", "--trusted-key", key, status=1).err


def test_published(ready: Cli, farm: Farm, tmp_path: Path) -> None:
    """Each time that something was published is known as another one, whatever the clocks say; and how many builds wait
    for that."""
    assert ready("archive-published", "primary").out == (
        "archive debian/primary: published; 0 builds wait for build-dependencies\n"
    )
    ready("submit", make_source(tmp_path, "waits"))
    start(farm, 1)
    end(farm, 1, Event.DEPENDENCIES_MISSING)
    with farm.transaction() as connection:  # By somebody whose clock is fast.
        depwaits.published(connection, distributions.find_archive(connection, "debian"), time.time() + 1000)
    with farm.reading() as connection:
        before = depwaits.publications(connection)
    told = ready("archive-published", "debian/primary", "--json").json
    assert told == {"distribution": "debian", "name": "primary", "waiting": 1}
    with farm.reading() as connection:
        assert depwaits.publications(connection) > before
    assert "no archive 'other' in 'debian'" in ready("archive-published", "other", status=1).err


def test_what_a_source_needs(ready: Cli, tmp_path: Path) -> None:
    """It is said of its name, and taken back; a word that is no tag is refused."""
    ready("add-builder", "http://127.0.0.1:1/", "--offline", "--architecture", "amd64")
    assert ready("change-source", "big", "--needs", "large", "--json").json["needs"] == ["large"]
    ready("submit", make_source(tmp_path, "big"))
    assert "that has large" in ready("queue").out
    assert "needs no resource tags" in ready("change-source", "big", "--no-needs").out
    assert "that has" not in ready("queue").out
    ready("change-source", "big", status=2)
    assert "no resource tag" in ready("change-source", "big", "--needs", "A B", status=1).err


def test_who_is_told(ready: Cli) -> None:
    """Addresses are replaced by those that are given; what is none is refused."""
    words = ("change-archive", "primary", "--notify", "a@example.org", "--notify", "b@example.org", "--json")
    assert ready(*words).json["notify"] == ["a@example.org", "b@example.org"]
    assert "tells a@example.org, b@example.org" in ready("archives").out
    for word in ("nobody", "a@b c", "x\r\nBcc: y@z", "-@-", "a@example.org,b@example.org"):
        assert "is no address" in ready("change-archive", "primary", "--notify", word, status=1).err
    assert ready("change-archive", "primary", "--no-notify", "--json").json["notify"] == []


def test_how_long_builds_may_take(ready: Cli) -> None:
    """An archive's builds may have a limit of their own, or that of the configuration again."""
    assert "72 h for a build" in ready("change-archive", "primary", "--build-timeout", "72h").out
    assert ready("change-archive", "primary", "--json").json["build_timeout_s"] == 72 * 3600
    assert ready("change-archive", "primary", "--build-timeout", "default", "--json").json["build_timeout_s"] is None
    for word in ("72", "0h", "-1h", "for ever"):
        assert "default" in ready("change-archive", "primary", "--build-timeout", word, status=2).err


def test_what_cannot_be(ready: Cli, tmp_path: Path) -> None:
    """Errors name what is wrong, and nothing is added."""
    assert "no archive 'ppa' in 'debian'" in ready("change-archive", "ppa", "--private", status=1).err
    assert "no distribution 'ubuntu'" in ready("add-archive", "ubuntu/ppa", status=1).err
    ready("add-archive", "ppa", "--needs", "a", "--no-needs", status=2)
    ready("add-archive", "ppa", "--purpose", "primary", status=2)
    assert "no line of sources.list" in ready("add-archive", "ppa", "--archive-line", "x", status=1).err
    assert [each["name"] for each in ready("archives", "--json").json["archives"]] == ["primary"]
    wrong = ready("submit", make_source(tmp_path, "x"), "--archive", "ppa", status=1)
    assert "no archive 'ppa' in 'debian'" in wrong.err


def test_score(ready: Cli, tmp_path: Path) -> None:
    """By hand, below 0 too, until that is taken back."""
    ready("submit", make_source(tmp_path, "hello"))
    assert "needs-build, score 20000" in ready("score", 1, 20000).out
    assert ready("score", 1, -5, "--json").json["score"] == -5
    assert "score 2510" in ready("score", 1, "auto").out
    assert "there is no build 9" in ready("score", 9, 1, status=1).err
    for word in ("many", "--5", "1.5", 10**9):
        ready("score", 1, word, status=2)


def test_passwords_of_lines(ready: Cli) -> None:
    """What builds read an archive elsewhere with is told nobody."""
    line = "deb http://ada:s3cr3t@deb.example/debian bookworm main"
    ready("add-archive", "far", "--archive-line", line)
    told = ready("archives", "--json").json["archives"]
    assert [each["archive_lines"] for each in told if each["name"] == "far"] == [
        ["deb http://deb.example/debian bookworm main"]
    ]
