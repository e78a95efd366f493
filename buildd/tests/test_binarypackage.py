"""The stages of a package build, and whom their failures blame."""

import errno
from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from buildd.depwait import COMPLETE
from buildd.disk_use import Disk
from buildd.isolation import BrokenChroot, LimitReached
from buildd.limits import Limit
from buildd.process import Exit
from buildd.protocol import BuildStatus, Cause
from buildd.tests.fake_isolation import Answer, FakeIsolation
from buildd.tests.package_world import DPKG_BEGINS, FAILED, FULL, PREPARED, RESOLVE, build, manager, run

TOO_LONG = Exit(None, 9, Limit.WALL_TIME)
NO_SBUILD = {"sbuild --dist": Answer(Exit(1, None, None))}
UNINSTALLABLE = {"dist-upgrade": Answer(), "-q --print-uris": Answer(FAILED)}


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
