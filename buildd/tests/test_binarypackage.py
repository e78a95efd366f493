"""The stages of a package build, and whom their failures blame."""

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.testing import MemoryReactorClock

from buildd.archives import Changed, Snapshot
from buildd.config import read_config
from buildd.depwait import COMPLETE
from buildd.disk_use import Disk
from buildd.isolation import BrokenChroot, LimitReached
from buildd.limits import Limit
from buildd.managers import chroot
from buildd.managers.base import BuildResult
from buildd.managers.binarypackage import BinaryPackageManager
from buildd.managers.building import Host
from buildd.managers.memos import Memos
from buildd.managers.rootfiles import PREPARE
from buildd.process import Exit
from buildd.protocol import BuildStatus, Cause
from buildd.tests.fake_isolation import Answer, FakeIsolation
from buildd.tests.test_plan import request

T = TypeVar("T")

ROOMY, FULL = Disk(1 << 40, 1 << 20, 1 << 14), Disk(1 << 20, 1 << 20, 1 << 14)
FAILED = Exit(100, None, None)
TOO_LONG = Exit(None, 9, Limit.WALL_TIME)
PREPARED = Answer(words="amd64 2001:2001\n")
RESOLVE = "Archives=/nowhere build-dep"
NO_SBUILD = {"sbuild --dist": Answer(Exit(1, None, None))}
DPKG_BEGINS = "debfarm: dpkg begins"
UNINSTALLABLE = {"dist-upgrade": Answer(), "-q --print-uris": Answer(FAILED)}


def at_once(blocking: Callable[..., T], /, *args: object) -> Deferred[T]:
    return succeed(blocking(*args))


def manager(
    isolation: FakeIsolation, tmp_path: Path, disk: Disk = ROOMY, archives: Sequence[Changed] = ()
) -> BinaryPackageManager:
    """
    :param archives: what they say, each time that they are asked.
    """
    answers = iter(archives)

    async def changed(snapshot: Snapshot, auth_conf: str, now: float) -> Changed:
        return next(answers)

    reactor: Any = MemoryReactorClock()  # type: ignore[no-untyped-call]
    return BinaryPackageManager(
        Host(
            config=read_config(None, {}, {"directory": str(tmp_path), "architecture": "amd64"}),
            isolation=isolation,
            memos=Memos(tmp_path / "memos"),
            reactor=reactor,
            in_thread=at_once,
            changed=changed,
            disk=lambda path: disk,
        )
    )


def build(
    tmp_path: Path,
    answers: dict[str, Answer],
    *,
    disk: Disk = ROOMY,
    unpacking: Exception | None = None,
    more: str = "Build-Depends: aa\n",
    **arguments: Any,
) -> BuildResult:
    """Build hello 1.0 where commands are answered like this."""
    isolation = FakeIsolation({**answers, "prepare": answers.get("prepare", PREPARED)}, unpacking)
    return run(isolation, tmp_path, disk, more, **arguments)


def run(isolation: FakeIsolation, tmp_path: Path, disk: Disk = ROOMY, more: str = "", **arguments: Any) -> BuildResult:
    builder, asked = manager(isolation, tmp_path, disk), request(tmp_path, more, **arguments)
    results: list[BuildResult] = []
    Deferred.fromCoroutine(builder.build(asked, builder.check(asked))).addCallback(results.append)
    return results[0]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("amd64 0:0\n", "uid 0 and gid 0, which no build may have"),
        ("amd64 2001:0\n", "no build may have"),
        ("amd64 65534:2001\n", "no build may have"),
        ("amd64 99999:2001\n", "no build may have"),
        ("arm64 2001:2001\n", "the chroot is for 'arm64', the build for 'amd64'"),
        ("", "damaged"),
        ("amd64\n", "damaged"),
        ("amd64 2001:2001\nmore\n", "damaged"),
        ("amd64 -1:x\n", "damaged"),
    ],
)
def test_a_chroot_must_be_fit_for_a_build(tmp_path: Path, words: str, complaint: str) -> None:
    """Architecture and build user are the chroot's claims; what is done with them needs them right."""
    result = build(tmp_path, {"prepare": Answer(words=words)})
    assert result.status is BuildStatus.CHROOTFAIL
    assert complaint in result.reason


def available(*packages: str) -> Answer:
    return Answer(words="".join(f"Package: {name}\nVersion: 1\n\n" for name in packages) + COMPLETE + "\n")


def test_missing_build_dependencies_are_named(tmp_path: Path) -> None:
    """DEPFAIL, when the archives do not have them."""
    result = build(tmp_path, {"dumpavail": available("bb"), **UNINSTALLABLE}, more="Build-Depends: aa (>= 2), bb\n")
    assert (result.status, result.dependencies) == (BuildStatus.DEPFAIL, "aa (>= 2)")
    result = build(tmp_path / "again", {"dumpavail": available("aa"), **UNINSTALLABLE})
    assert (result.status, result.cause) == (BuildStatus.PACKAGEFAIL, Cause.DEPENDENCY)


def test_what_is_missing_to_build_for_another_architecture_is_named(tmp_path: Path) -> None:
    """Though the chroot's own architecture has it."""
    listed = Answer(words=f"Package: bb\nVersion: 1\nArchitecture: amd64\n\n{COMPLETE}\n")
    result = build(
        tmp_path, {"dumpavail": listed, **UNINSTALLABLE}, more="Build-Depends: bb\n", host_architecture="arm64"
    )
    assert (result.status, result.dependencies) == (BuildStatus.DEPFAIL, "bb")
    assert result.reason == "nothing satisfies the build-dependencies bb of a build for arm64"


def test_a_list_of_packages_to_install_may_be_long(tmp_path: Path) -> None:
    """But not without end: what is cut off is not taken for all."""
    listed = "".join(f"'http://h/a{number}_1_all.deb' a{number}_1_all.deb 1 {'x' * 100}\n" for number in range(10_000))
    isolation = FakeIsolation({"prepare": PREPARED, RESOLVE: Answer(words=listed), "sbuild": Answer(FAILED)})
    run(isolation, tmp_path)
    assert any("10000 packages" in layer.note for layer in isolation.kept.values())
    result = build(tmp_path / "endless", {RESOLVE: Answer(words=listed * 12)})
    assert (result.status, "more than" in result.reason) == (BuildStatus.CHROOTFAIL, True)


@pytest.mark.parametrize(
    ("listed", "status"),
    [
        (Answer(FAILED), BuildStatus.CHROOTFAIL),
        (Answer(words="Package: bb\n"), BuildStatus.CHROOTFAIL),
        (Answer(TOO_LONG, "Package: bb\n"), BuildStatus.PACKAGEFAIL),
        (Answer(words="Package: bb\n" * (6 << 20)), BuildStatus.BUILDERFAIL),
    ],
    ids=["fails", "breaks off", "is stopped", "is too long"],
)
def test_an_incomplete_list_of_packages_names_nothing(tmp_path: Path, listed: Answer, status: BuildStatus) -> None:
    """What it does not have is not missing for that."""
    result = build(tmp_path, {"dumpavail": listed, **UNINSTALLABLE})
    assert (result.status, result.dependencies) == (status, "")


@pytest.mark.parametrize(
    "answers",
    [
        {"prepare": Answer(FAILED)},
        {"conf -q update": Answer(FAILED)},
        UNINSTALLABLE,
        {"pkgcache= build-dep": Answer(FAILED)},
        {"sbuild --dist": Answer(Exit(2, None, None))},
        {"sbuild --dist": Answer(Exit(None, 9, Limit.LOG_ERROR))},
    ],
    ids=["prepare", "update", "resolve", "install", "build", "log"],
)
def test_a_full_disk_is_the_builders_fault(tmp_path: Path, answers: dict[str, Answer]) -> None:
    """Whatever stage fails on it, and whatever it says."""
    result = build(tmp_path, answers, disk=FULL)
    assert (result.status, result.reason) == (BuildStatus.BUILDERFAIL, "the builder's disk is full")
    assert result.cause is Cause.DISK
    assert build(tmp_path / "other", answers).reason != result.reason
    assert build(tmp_path / "files", answers, disk=Disk(1 << 40, 10, 1 << 14)).reason == result.reason


def test_what_unpacks_no_more_for_want_of_space_is_the_builders_fault(tmp_path: Path) -> None:
    """The chroot is not to blame, nor is the daemon's own code."""
    broken = BrokenChroot("the chroot tarball could not be unpacked: exit status 2")
    assert build(tmp_path, {}, unpacking=broken).status is BuildStatus.CHROOTFAIL
    result = build(tmp_path / "full", {}, unpacking=broken, disk=FULL)
    assert (result.status, result.reason) == (BuildStatus.BUILDERFAIL, "the builder's disk is full")
    result = build(tmp_path / "error", {}, unpacking=OSError(errno.ENOSPC, "No space left on device"))
    assert (result.status, result.reason) == (BuildStatus.BUILDERFAIL, "the builder's disk is full")


@pytest.mark.parametrize("command", ["conf -q update", "dist-upgrade", "-q -o Dir::Cache::pkgcache= build-dep"])
def test_packages_that_do_not_fit_on_the_disk(tmp_path: Path, command: str) -> None:
    """apt asks beforehand, so that there is space left when it gives up."""
    words = "E: You don't have enough free space in /var/cache/apt/archives/.\n"
    result = build(tmp_path, {command: Answer(FAILED, words)})
    assert (result.status, result.reason) == (BuildStatus.BUILDERFAIL, "the builder's disk is full")


def test_a_limit_while_the_chroot_is_unpacked_is_not_the_chroots_fault(tmp_path: Path) -> None:
    """It is what it would be in any other stage."""
    result = build(tmp_path, {}, unpacking=LimitReached(TOO_LONG))
    assert result.status is BuildStatus.PACKAGEFAIL
    assert "longer than the time limit" in result.reason
    assert result.cause is Cause.TIME
    result = build(tmp_path / "again", {}, unpacking=LimitReached(Exit(None, 9, Limit.LOG_ERROR)))
    assert result.status is BuildStatus.BUILDERFAIL


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("E: Failed to fetch http://h/Packages  503  Service Unavailable [IP: 1.2.3.4 80]\n", BuildStatus.GIVENBACK),
        ("E: Failed to fetch http://h/Packages  404  Not Found [IP: 1.2.3.4 80]\n", BuildStatus.CHROOTFAIL),
    ],
)
def test_archives_that_fail_for_a_while_or_for_good(tmp_path: Path, words: str, status: BuildStatus) -> None:
    """Only the first is worth another try."""
    assert build(tmp_path, {"conf -q update": Answer(FAILED, words)}).status is status


def test_lists_that_are_missing_though_apt_ends_well(tmp_path: Path) -> None:
    """Old versions of apt do without; a build must not."""
    words = "W: Failed to fetch http://h/InRelease  503  Service Unavailable\n"
    assert build(tmp_path, {"conf -q update": Answer(words=words)}).status is BuildStatus.GIVENBACK


@pytest.mark.parametrize(
    "listed", [Answer(FAILED), Answer(words="'http://h/x?y/dists/s/InRelease' y 0\n")], ids=["fails", "is no archive's"]
)
def test_sources_of_the_chroots_own_that_are_of_no_use(tmp_path: Path, listed: Answer) -> None:
    """They are the chroot's fault, not the builder's."""
    result = build(tmp_path, {"update --print-uris": listed})
    assert result.status is BuildStatus.CHROOTFAIL
    assert "sources" in result.reason


def test_a_limit_while_the_chroot_is_asked(tmp_path: Path) -> None:
    """It ends the build, whatever the chroot had to say."""
    result = build(tmp_path, {"update --print-uris": Answer(TOO_LONG)})
    assert (result.status, result.cause) == (BuildStatus.PACKAGEFAIL, Cause.TIME)


@pytest.mark.parametrize(
    "words",
    [
        "E: Failed to fetch http://h/x.deb  503  Service Unavailable [IP: 127.0.0.1 80]\n",
        "Err:1 http://h/x.deb\n  Could not connect to h:80 (127.0.0.1), connection timed out\n",
        "E: You don't have enough free space in /var/cache/apt/archives/.\n",
        "dpkg: error: cannot write: No space left on device\n",
        "W: Some index files failed to download. They have been ignored.\n",
        "E: Sub-process dpkg was killed\nKilled\nFail-Stage: chroot-arch\nStatus: failed\n",
    ],
)
def test_what_a_build_dependency_prints_blames_nobody_else(tmp_path: Path, words: str) -> None:
    """Its scripts run when dpkg has begun, and can say what apt says."""
    install = {"pkgcache= build-dep": Answer(FAILED, f"Fetched 1 kB\n{DPKG_BEGINS}\n{words}E: Sub-process failed\n")}
    result = build(tmp_path, install)
    assert (result.status, result.cause) == (BuildStatus.PACKAGEFAIL, Cause.DEPENDENCY)
    upgraded = build(tmp_path / "upgraded", {"dist-upgrade": Answer(words=f"{DPKG_BEGINS}\n{words}"), **NO_SBUILD})
    assert upgraded.reason.startswith("sbuild ended")  # Only then.


@pytest.mark.parametrize(
    ("fit", "status", "cause"),
    [
        (PREPARED, BuildStatus.BUILDERFAIL, None),
        (Answer(words="amd64 0:0\n"), BuildStatus.PACKAGEFAIL, Cause.DEPENDENCY),
        (Answer(Exit(127, None, None)), BuildStatus.PACKAGEFAIL, Cause.DEPENDENCY),
        (Answer(TOO_LONG, "amd64 2001:2001\n"), BuildStatus.PACKAGEFAIL, Cause.TIME),
        (Answer(Exit(None, 9, Limit.LOG_ERROR)), BuildStatus.BUILDERFAIL, Cause.BUILDER),
    ],
    ids=["fit", "other users", "no shell", "hangs", "cannot be told"],
)
@pytest.mark.parametrize("package_builder", ["sbuild", "direct"])
def test_a_chroot_that_a_build_dependency_broke(
    tmp_path: Path, package_builder: str, fit: Answer, status: BuildStatus, cause: Cause | None
) -> None:
    """It was fit before: neither chroot nor builder are to blame."""
    answers = {"without build-dependencies": PREPARED, "with build-dependencies": fit, **NO_SBUILD}
    result = build(tmp_path, answers, package_builder=package_builder)
    assert (result.status, result.cause) == (status, cause)


def test_a_chroot_that_was_broken_before(tmp_path: Path) -> None:
    """No build-dependency is to blame for what has been in the way already."""
    unfit = Answer(words="")
    result = build(tmp_path, {"without build-dependencies": unfit, "with build-dependencies": unfit, **NO_SBUILD})
    assert (result.status, result.cause) == (BuildStatus.BUILDERFAIL, None)


def test_credentials_are_there_for_apt_alone(tmp_path: Path) -> None:
    """They come on the standard input of the commands that fetch, and of no other."""
    isolation = FakeIsolation({"prepare": PREPARED, "sbuild --dist": Answer(FAILED)})
    run(isolation, tmp_path, archives=["deb http://ann:s3cr3t@h/x ./"])
    given = [command for command, stdin in isolation.inputs.items() if b"s3cr3t" in stdin]
    assert [command.split()[-1] for command in given] == ["update", "dist-upgrade", "/build-dependencies.dsc"]
    assert all("Dir::Etc::netrc=" in command for command in given)
    assert not any("s3cr3t" in command for command in isolation.commands)


def test_what_cannot_be_removed_at_start_is_left(tmp_path: Path) -> None:
    """It costs space; the daemon starts all the same and removes the rest."""
    builds = tmp_path / "builds"
    for name in ("one", "stuck", "two"):
        (builds / name).mkdir(parents=True)
    isolation = FakeIsolation({}, unremovable=frozenset({"stuck"}))
    done = Deferred.fromCoroutine(manager(isolation, tmp_path).recover(builds))
    assert done.result is None
    assert {path.name for path in isolation.removed} == {"one", "two"}


ALL = ["update", "dist-upgrade", "/build-dependencies.dsc", "/build-dependencies.dsc"]


def words(isolation: FakeIsolation) -> list[str]:
    """What was asked of apt that takes long: the last word of each command."""
    return [word for word in (command.split()[-1] for command in isolation.commands) if word in ALL]


MODIFIED_JUST_NOW = {
    "update --print-uris": Answer(
        words="'http://h/x/dists/s/InRelease' h_InRelease 0 \n"
        f"file h_InRelease 1700000000 1700000001 {'ab' * 32} \ndebfarm: that was all\n"
    )
}
RESOLVED = Answer(words="'http://h/aa_1_all.deb' aa_1_all.deb 1 SHA256:ab\n")


def commands_of_two_builds(tmp_path: Path, changed: Changed, states: tuple[str, str], second: str) -> list[list[str]]:
    """What each of two builds on one chroot has apt do.

    :param states: of the archives, for each build.
    :param second: more of the second's .dsc.
    """
    isolation = FakeIsolation({"prepare": PREPARED, RESOLVE: RESOLVED, "sbuild": Answer(FAILED)})
    builder = manager(isolation, tmp_path, archives=[changed])
    done = []
    for number, (state, more) in enumerate(zip(states, ("Build-Depends: aa\n", second), strict=True)):
        isolation.answers["sha256sum | sha256sum"] = Answer(words=state)
        asked = request(tmp_path / str(number), more)
        Deferred.fromCoroutine(builder.build(asked, builder.check(asked)))
        done.append(words(isolation))
        isolation.commands.clear()
    return done


def test_what_was_built_before_is_built_without_apt(tmp_path: Path) -> None:
    """While the archives say that nothing has changed."""
    assert commands_of_two_builds(tmp_path, Changed.NO, ("one", "one"), "Build-Depends: aa\n") == [ALL, []]


ANSWER = f"debfarm: answered beside it\n{RESOLVED.words}debfarm: end of the answer\n"


@pytest.mark.parametrize(
    ("upgrade", "asked"),
    [
        (f"0 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n{ANSWER}", False),
        (f"1 upgraded, 0 newly installed, 0 to remove and 0 not upgraded.\n{DPKG_BEGINS}\n{ANSWER}", True),
    ],
    ids=["nothing", "something"],
)
def test_what_is_to_be_installed_is_asked_while_there_is_nothing_to_upgrade(
    tmp_path: Path, upgrade: str, asked: bool
) -> None:
    """And once more, where the upgrade had something to do."""
    answers = {"prepare": PREPARED, "dist-upgrade": Answer(words=upgrade), RESOLVE: RESOLVED, "sbuild": Answer(FAILED)}
    isolation = FakeIsolation(answers)
    run(isolation, tmp_path, more="Build-Depends: aa\n")
    assert words(isolation) == (ALL if asked else ALL[:-1])
    assert isolation.put.keys() == {"CurrentlyBuilding"}


def test_another_version_of_the_daemon_prepares_chroots_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the one before has kept is not what it would make."""
    isolation = FakeIsolation({"prepare": PREPARED, "--print-uris": RESOLVED, "sbuild": Answer(FAILED)})
    builder = manager(isolation, tmp_path)
    for number, script in enumerate((PREPARE, f"{PREPARE}touch /etc/new\n")):
        monkeypatch.setattr(chroot, "PREPARE", script)
        asked = request(tmp_path / str(number), "Build-Depends: aa\n")
        Deferred.fromCoroutine(builder.build(asked, builder.check(asked)))
    assert len([command for command in isolation.commands if "touch /etc/new" in command]) == 1


def test_other_relations_are_resolved_and_may_share_a_layer(tmp_path: Path) -> None:
    """When it is the same packages that they come to."""
    first, second = commands_of_two_builds(tmp_path, Changed.NO, ("one", "one"), "Build-Depends: aa (>= 1)\n")
    assert (first, second) == (ALL, ["/build-dependencies.dsc"])


def test_what_must_go_makes_another_layer(tmp_path: Path) -> None:
    """Build-Conflicts are not among what is fetched."""
    _, second = commands_of_two_builds(tmp_path, Changed.NO, ("one", "one"), "Build-Depends: aa\nBuild-Conflicts: bb\n")
    assert second == ["/build-dependencies.dsc"] * 2


def test_an_archive_that_cannot_say_is_asked_by_apt(tmp_path: Path) -> None:
    """What apt finds as it was is as good."""
    commands = commands_of_two_builds(tmp_path, Changed.UNKNOWN, ("one", "one"), "Build-Depends: aa\n")
    assert commands == [ALL, ["update"]]


def test_no_layer_outlives_a_change_in_its_archives(tmp_path: Path) -> None:
    """All is made anew, from the chroot as it was unpacked."""
    _, second = commands_of_two_builds(tmp_path / "a", Changed.UNKNOWN, ("one", "two"), "Build-Depends: aa\n")
    assert second == ["update", *ALL]
    _, second = commands_of_two_builds(tmp_path / "b", Changed.YES, ("one", "two"), "Build-Depends: aa\n")
    assert second == ALL


def test_archives_that_went_back(tmp_path: Path) -> None:
    """apt takes no older release file than it has, so that it is not asked on top of what it has."""
    _, second = commands_of_two_builds(tmp_path, Changed.YES, ("one", "one"), "Build-Depends: aa\n")
    assert second == ["update"]  # Upon the chroot; the layer for that state is there.


def test_apt_is_not_asked_what_dates_do_not_tell(tmp_path: Path) -> None:
    """It would be told that the archive was not modified since, and believe it."""
    isolation = FakeIsolation({"prepare": PREPARED, **MODIFIED_JUST_NOW, "sbuild": Answer(FAILED)})
    builder = manager(isolation, tmp_path, archives=[Changed.UNKNOWN])
    for number in range(2):
        isolation.commands.clear()
        asked = request(tmp_path / str(number), archives=["deb http://h/x s main"])
        Deferred.fromCoroutine(builder.build(asked, builder.check(asked)))
    assert [command for command in isolation.commands if "prepare" in command]


def test_builds_that_find_all_as_it_was_do_not_wait_for_each_other(tmp_path: Path) -> None:
    """Archives are asked, which may take seconds, before anybody's turn; that is for who makes something."""
    isolation = FakeIsolation({"prepare": PREPARED, RESOLVE: RESOLVED, "sbuild": Answer(FAILED)})
    builder = manager(isolation, tmp_path, archives=[Changed.NO, Changed.UNKNOWN])
    turns = []
    for number in range(3):
        asked = request(tmp_path / str(number), "Build-Depends: aa\n")
        Deferred.fromCoroutine(builder.build(asked, builder.check(asked)))
        turns.append(list(isolation.turns))
        isolation.turns.clear()
    (upgrade, install), warm, unknown = turns
    assert (warm, unknown) == ([install], [upgrade, install])


def test_what_another_build_made_meanwhile_is_used(tmp_path: Path) -> None:
    """Who has waited for his turn looks again."""
    isolation = FakeIsolation({"prepare": PREPARED, RESOLVE: RESOLVED, "sbuild": Answer(FAILED)})
    builder = manager(isolation, tmp_path, archives=[Changed.NO])

    def build_one(name: str) -> None:
        asked = request(tmp_path / name, "Build-Depends: aa\n")
        Deferred.fromCoroutine(builder.build(asked, builder.check(asked)))

    isolation.meanwhile.append(lambda: build_one("other"))
    build_one("ours")
    assert words(isolation) == ALL  # Once.


def test_a_state_that_cannot_be_told_is_never_the_same(tmp_path: Path) -> None:
    """A chroot without the means is built on, each time from the start."""
    isolation = FakeIsolation({"prepare": PREPARED, "sha256sum | sha256sum": Answer(FAILED)})
    builder = manager(isolation, tmp_path, archives=[Changed.UNKNOWN])
    for number in range(2):
        asked = request(tmp_path / str(number))  # With the same build id: it is the same build, tried again.
        isolation.commands.clear()
        Deferred.fromCoroutine(builder.build(asked, builder.check(asked)))
    assert "dist-upgrade" in words(isolation)
