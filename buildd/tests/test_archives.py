"""Whether archives have changed: asked by us, and then by the real apt, of real archives."""

import functools
import os
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from buildd.archives import TELL, ArchiveWatch, Changed, Release, Snapshot, UnknownArchives, Waiting, parse
from buildd.reach import Reach
from buildd.tests.running import FileServer, hang, slow, status_line, whole
from buildd.tests.small_archive import OwnApt, SmallArchive

REACH = Reach.of(["http://deb.example/debian", "https://x.example/y", "http://flat.example/"])
DIGEST = "0123456789abcdef" * 4
END = "debfarm: that was all\n"
MANY = range(200)
IN_RELEASE = "'http://deb.example/debian/dists/x/InRelease' deb_x_InRelease 0 \n"


def file(name: str, valid_until: str = "", fetched: int = 1_700_001_000) -> str:
    """What TELL says of a file."""
    return f"file {name} 1700000000 {fetched} {DIGEST} {valid_until}\n"


# --- what the root tells


def test_what_apt_has() -> None:
    """URL, digest, time and end of each release file are taken from what apt and the root say."""
    told = IN_RELEASE + "'http://deb.example/debian/dists/x/main/binary-amd64/Packages.xz' deb_x_Packages 0 SHA256:ab\n"
    told += "'https://x.example/y/./InRelease' y_._InRelease 0 \n"
    told += file("deb_x_InRelease", "Sat, 01 Jan 2000 00:00:10 UTC") + file("y_._Release") + file("old_InRelease")
    assert parse(told + END, REACH).releases == (
        Release("http://deb.example/debian/dists/x/InRelease", DIGEST, 1_700_000_000, 946_684_810),
        Release("https://x.example/y/./Release", DIGEST, 1_700_000_000, None),
    )


@pytest.mark.parametrize(
    "told",
    [
        "",
        IN_RELEASE,
        IN_RELEASE + file("other_InRelease"),
        IN_RELEASE + file("deb_x_InRelease", "some time or other"),
        IN_RELEASE + file("deb_x_InRelease") + "'file:/srv/dists/y/InRelease' y_InRelease 0 \n" + file("y_InRelease"),
        IN_RELEASE + file("deb_x_InRelease") + "'cdrom://D/dists/y/InRelease' y_InRelease 0 \n" + file("y_InRelease"),
        IN_RELEASE + file("deb_x_InRelease") + "'http://u:p@deb.example/debian/InRelease' y_InRelease 0 \n"
        + file("y_InRelease"),
        "".join(IN_RELEASE.replace("x/", f"{n}/").replace("_x", f"_{n}") + file(f"deb_{n}_InRelease") for n in MANY),
    ],
)  # fmt: skip
def test_archives_that_cannot_be_asked(told: str) -> None:
    """Without archives, or with one that cannot be asked for its release file, nothing is known of any."""
    assert parse(told + END, REACH) == Snapshot()


@pytest.mark.parametrize(
    "told",
    [
        "",
        END * 2,
        IN_RELEASE + file("deb_x_InRelease"),
        "E: something\n" + END,
        "'http://deb.example/debian/InRelease\n" + END,
        "file x -1 1 " + DIGEST + " \n" + END,
        "file x 1 1 " + DIGEST[1:] + " \n" + END,
        "file x 1 1 " + DIGEST + " \x1b[2J\n" + END,
        "x" * 5_000_000 + "\n" + END,
        IN_RELEASE.replace("deb.example", "elsewhere.example") + file("deb_x_InRelease") + END,
        IN_RELEASE.replace("http://deb.example/debian", "http://127.0.0.1:8221/rpc") + file("deb_x_InRelease") + END,
        IN_RELEASE.replace("debian/", "debian/../secret/") + file("deb_x_InRelease") + END,
    ],
)
def test_words_that_are_not_to_be_trusted(told: str) -> None:
    """A root that says something else, or names archives that are not the build's, is not believed."""
    with pytest.raises(UnknownArchives) as raised:
        parse(told, REACH)
    assert len(str(raised.value)) < 500
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(
    "line",
    ["'x' y " + "1" * 100_000 + " z z", "'x' y " + " " * 100_000 + "z", "file x " + "1 " * 50_000, "'" * 100_000],
)
def test_words_that_are_hard_to_read(line: str) -> None:
    """A hostile root's words take no time."""
    begun = time.thread_time()
    with pytest.raises(UnknownArchives):
        parse(f"{line}\n{END}", REACH)
    assert time.thread_time() - begun < 1


def test_a_note() -> None:
    """A snapshot can be written to a note and read again; a note of another kind knows nothing."""
    snapshot = parse(IN_RELEASE + file("deb_x_InRelease") + END, REACH)
    assert Snapshot.from_json(snapshot.to_json()) == snapshot
    for text in ("", "x", "[1]", '[{"url": ""}]', "{}", "7"):
        assert Snapshot.from_json(text) == Snapshot()


# --- what archives say


def awaited(test: Callable[["WatchTests"], Coroutine[Any, Any, None]]) -> Callable[["WatchTests"], Deferred[None]]:
    """A test that is a coroutine. Debian 12's trial would call it, and think that that was all."""

    @functools.wraps(test)
    def run(self: "WatchTests") -> Deferred[None]:
        return Deferred.fromCoroutine(test(self))

    return run


class WatchTests(TestCase):
    """Archives on the loopback."""

    timeout = 60

    def archive(self, **kind: bool) -> SmallArchive:
        archive = SmallArchive(**kind)
        self.addCleanup(archive.close)
        archive.add("one")
        return archive

    def apt(self, *lines: str) -> OwnApt:
        apt = OwnApt(*lines)
        self.addCleanup(apt.close)
        assert apt.update()
        return apt

    def snapshot(self, apt: OwnApt, *known: SmallArchive) -> Snapshot:
        """What this apt has now."""
        told = apt.run(*(part.replace("/var/lib/apt", f"{apt.root}/var/lib/apt") for part in TELL))
        assert told.returncode == 0, told.stderr
        return parse(told.stdout, Reach.of(archive.url for archive in known))

    async def changed(
        self, snapshot: Snapshot, auth_conf: str = "", now: float | None = None, waiting: Waiting | None = None
    ) -> Changed:
        watch = ArchiveWatch(reactor, waiting=waiting)
        return await watch.changed(snapshot, auth_conf, time.time() if now is None else now)

    async def unchanged(self, snapshot: Snapshot, auth_conf: str = "", now: float | None = None) -> bool:
        return await self.changed(snapshot, auth_conf, now) is Changed.NO

    @awaited
    async def test_nothing_new(self) -> None:
        """Archives in which nothing was published are unchanged, and so apt finds them."""
        one, two = self.archive(), self.archive()
        one.publish(modified=time.time() - 500, valid_s=1000)
        two.publish(modified=time.time() - 900)
        apt = self.apt(one.line, two.line)
        snapshot = self.snapshot(apt, one, two)
        one.requests.clear()
        assert await self.unchanged(snapshot)
        assert one.requests == [("/dists/stable/InRelease", 304)]
        assert not apt.update()

    @awaited
    async def test_something_new(self) -> None:
        """An archive that published something is changed, whatever the others are."""
        one, two = self.archive(), self.archive()
        one.publish(modified=time.time() - 500)
        two.publish(modified=time.time() - 900)
        apt = self.apt(one.line, two.line)
        snapshot = self.snapshot(apt, one, two)
        two.add("two")
        two.publish(modified=time.time() - 100)
        assert await self.changed(snapshot) is Changed.YES
        assert apt.update()
        assert await self.unchanged(self.snapshot(apt, one, two))

    @awaited
    async def test_published_twice_in_a_second(self) -> None:
        """An archive whose release file was brand-new when it was fetched is asked for content, not for dates."""
        archive = self.archive()
        now = int(time.time())
        archive.publish(modified=now)
        apt = self.apt(archive.line)
        snapshot = self.snapshot(apt, archive)
        assert not snapshot.is_dated
        assert await self.unchanged(snapshot)
        archive.add("two")
        archive.publish(modified=now)
        assert await self.changed(snapshot) is Changed.YES
        assert not apt.update()  # It would not have noticed.

    @awaited
    async def test_an_answer_that_breaks_off(self) -> None:
        """Half a release file is not another one."""
        server = FileServer({"/InRelease": whole(b"half", announced=8)})
        self.addCleanup(server.__exit__)
        snapshot = Snapshot((Release(server.url("/InRelease"), DIGEST, 0, None),))
        assert await self.changed(snapshot) is Changed.UNKNOWN

    @awaited
    async def test_an_archive_that_goes_back(self) -> None:
        """What was set back in time is as new to us as it is to apt."""
        archive = self.archive()
        archive.publish(modified=time.time() - 500)
        apt = self.apt(archive.line)
        snapshot = self.snapshot(apt, archive)
        archive.add("two")
        archive.publish(modified=time.time() - 900)
        unchanged = await self.unchanged(snapshot)
        assert unchanged is not apt.update()

    @awaited
    async def test_a_mirror_without_dates(self) -> None:
        """A mirror that never says "not modified" is unchanged as long as it sends the same file."""
        archive = self.archive()
        archive.dated = False
        archive.publish()
        apt = self.apt(archive.line)
        snapshot = self.snapshot(apt, archive)
        archive.requests.clear()
        assert await self.unchanged(snapshot)
        assert archive.requests == [("/dists/stable/InRelease", 200)]
        archive.add("two")
        archive.publish()
        assert not await self.unchanged(snapshot)
        assert apt.update()

    @awaited
    async def test_a_signature_apart(self) -> None:
        """Where there is no InRelease, the Release is asked for, and that there is still no InRelease."""
        archive = self.archive()
        archive.publish(apart=True, modified=time.time() - 500)
        apt = self.apt(archive.line)
        snapshot = self.snapshot(apt, archive)
        assert snapshot.releases[0].url.endswith("/Release")
        assert await self.unchanged(snapshot)
        assert not apt.update()
        archive.add("two")
        archive.publish(apart=True, modified=time.time() - 300)
        assert not await self.unchanged(snapshot)
        assert apt.update()
        snapshot = self.snapshot(apt, archive)
        assert await self.unchanged(snapshot)
        release = (archive.folder / "files/dists/stable/Release").read_bytes()
        archive.add("three")
        archive.publish(modified=time.time() - 100)
        (archive.folder / "files/dists/stable/Release").write_bytes(release)
        os.utime(archive.folder / "files/dists/stable/Release", (0, 0))
        assert not await self.unchanged(snapshot)
        assert apt.update()

    @awaited
    async def test_lists_that_have_expired(self) -> None:
        """Lists are good until the archive says, and no longer."""
        archive = self.archive()
        archive.publish(valid_s=100)
        snapshot = self.snapshot(self.apt(archive.line), archive)
        assert await self.unchanged(snapshot)
        assert await self.unchanged(snapshot, now=time.time() + 90)
        archive.requests.clear()
        assert not await self.unchanged(snapshot, now=time.time() + 101)
        assert archive.requests == []

    @awaited
    async def test_an_archive_without_a_release_file(self) -> None:
        """A flat archive without a release file has always changed: only apt itself can tell."""
        archive = self.archive(flat=True)
        archive.publish()
        snapshot = self.snapshot(self.apt(archive.line), archive)
        assert snapshot == Snapshot()
        assert not await self.unchanged(snapshot)

    @awaited
    async def test_other_ways_to_write_a_source(self) -> None:
        """Sources in Debian's newer format, and two suites of which one is a link, are understood as apt does."""
        archive = self.archive()
        archive.publish(modified=time.time() - 500)
        (archive.folder / "files/dists/other").symlink_to("stable")
        apt = OwnApt()
        self.addCleanup(apt.close)
        (apt.root / "etc/apt/sources.list.d").mkdir()
        key = archive.line.partition("signed-by=")[2].partition("]")[0]
        stanza = f"Types: deb\nURIs: {archive.url}\nSuites: stable other\nComponents: main\nSigned-By: {key}\n"
        (apt.root / "etc/apt/sources.list.d/x.sources").write_text(stanza)
        apt.run("apt-get", "update")
        snapshot = self.snapshot(apt, archive)
        names = {release.url.removeprefix(archive.url) for release in snapshot.releases}
        assert names == {"dists/stable/InRelease", "dists/other/InRelease"}
        assert await self.unchanged(snapshot)

    @awaited
    async def test_a_password(self) -> None:
        """An archive that asks for a password gets the one of its own; without it, it may have changed."""
        archive = self.archive()
        archive.publish()
        archive.password = "me:pa%s"
        machine = f"machine {archive.url} login me password pa%s\n"
        apt = OwnApt(archive.line, options=('Dir::Etc::netrc "/dev/null";',))
        self.addCleanup(apt.close)
        netrc = apt.root / "etc/apt/auth.conf"
        netrc.write_text(machine)
        apt.configuration.write_text(apt.configuration.read_text().replace("/dev/null", str(netrc)))
        assert apt.update()
        snapshot = self.snapshot(apt, archive)
        assert await self.unchanged(snapshot, machine)
        assert await self.unchanged(snapshot, f"machine http://x/ login a\n{machine}")
        assert not await self.unchanged(snapshot)
        assert not await self.unchanged(snapshot, machine.replace("pa%s", "wrong"))
        assert not await self.unchanged(snapshot, machine.replace(archive.url, archive.url + "other/"))

    @awaited
    async def test_an_archive_that_fails(self) -> None:
        """Whatever else an archive answers, it may have changed; a redirect is followed nowhere."""
        archive, other = self.archive(), self.archive()
        for each in (archive, other):
            each.publish()
        snapshot = self.snapshot(self.apt(archive.line), archive)
        path = "dists/stable/InRelease"
        for status in (204, 206, 401, 403, 404, 410, 429, 500, 503):
            archive.answers[path] = status
            assert await self.changed(snapshot) is Changed.UNKNOWN, status
        archive.answers.clear()
        archive.locations[path] = other.url + path
        assert await self.changed(snapshot) is Changed.UNKNOWN
        assert other.requests == []

    @awaited
    async def test_an_archive_that_does_not_answer(self) -> None:
        """An archive that hangs, trickles or is gone holds nothing up for long."""
        server = FileServer({
            "/hang/InRelease": hang,
            "/trickle/InRelease": slow(iter([b"x"] * 1000), 0.1),
            "/none/InRelease": status_line(b"200"),
        })  # fmt: skip
        self.addCleanup(server.__exit__)
        begun = time.monotonic()
        for url in (server.url("/hang"), server.url("/trickle"), server.url("/none"), "http://127.0.0.1:1"):
            snapshot = Snapshot((Release(f"{url}/InRelease", DIGEST, 0, None),))
            waiting = Waiting(step_s=0.3, total_s=0.6)
            assert await self.changed(snapshot, waiting=waiting) in (Changed.UNKNOWN, Changed.YES)
        assert time.monotonic() - begun < 3

    @awaited
    async def test_https_that_cannot_be_trusted(self) -> None:
        """A server whose certificate is nobody's may say what it likes."""
        archive = self.archive()
        archive.publish()
        snapshot = self.snapshot(self.apt(archive.line), archive)
        assert await self.unchanged(snapshot)
        secured = replace(snapshot.releases[0], url=snapshot.releases[0].url.replace("http://", "https://"))
        assert not await self.unchanged(Snapshot((secured,)))

    @awaited
    async def test_by_a_proxy(self) -> None:
        """With a proxy, archives are asked by it, with its password."""
        server = FileServer({"http://deb.example/InRelease": status_line(b"304 Not Modified")})
        self.addCleanup(server.__exit__)
        watch = ArchiveWatch(reactor, server.url("").replace("http://", "http://a:b@"))
        snapshot = Snapshot((Release("http://deb.example/InRelease", DIGEST, 0, None),))
        assert await watch.changed(snapshot, "", 0) is Changed.NO
        assert b"Proxy-Authorization: Basic YTpi\r\n" in server.requests[0]
        assert b"If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n" in server.requests[0]


def test_the_state_is_that_of_all_release_files() -> None:
    """Whatever their order, and whenever they were fetched; of nothing known there is none."""
    one = Release("http://h/x/dists/s/InRelease", "a" * 64, 1, None)
    other = Release("http://h/y/./InRelease", "b" * 64, 1, None)
    state = Snapshot((one, other)).state
    assert Snapshot((other, replace(one, modified=2, valid_until=3))).state == state
    assert Snapshot((one,)).state != state
    assert Snapshot((one, replace(other, sha256="c" * 64))).state != state
    assert Snapshot().state == ""
