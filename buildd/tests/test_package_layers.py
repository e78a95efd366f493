"""What is asked of apt for a package build, and what is remembered of that for the next."""

from pathlib import Path

import pytest
from twisted.internet.defer import Deferred

from buildd.archives import Changed
from buildd.managers import chroot
from buildd.managers.rootfiles import PREPARE
from buildd.tests.fake_isolation import Answer, FakeIsolation
from buildd.tests.package_world import DPKG_BEGINS, FAILED, PREPARED, RESOLVE, manager, run
from buildd.tests.test_plan import request

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


ANSWER = f"debfarm: what a build needs, as long as nothing is upgraded:\n{RESOLVED.words}debfarm: that is all\n"


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
