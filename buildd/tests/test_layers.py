"""Layers are whole or absent, and stay as long as somebody uses them."""

import json
import os
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from buildd.disk_use import Disk
from buildd.isolation.layers import Budget, LayerKey, layer_key, layer_note
from buildd.tests.layers_farm import KEY, Farm, done


def _expected(why: Failure, error: type[Exception]) -> None:
    assert isinstance(why.value, error)


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    return Farm(tmp_path)


def _set_attribute(path: Path) -> None:
    try:
        os.setxattr(path, "user.attribute", b"y")
    except OSError as exc:
        pytest.skip(f"no extended attributes here: {exc}")


def test_a_layer_that_was_kept_is_found(farm: Farm) -> None:
    """By its key, with its note, by every daemon that shares the directory; what was kept is no more where it was."""
    farm.keep(content="of today").release()
    layer = done(farm.daemon().find(KEY))
    assert layer is not None
    assert (layer.state, (layer.tree / "etc" / "file").read_text()) == ("of today", "of today")
    assert not (farm.directory / "upper-1").exists()
    assert farm.names() == [f"{KEY}-1"]
    assert farm.locks() == []
    assert done(farm.daemon().find(layer_key("b"))) is None


def test_a_newer_layer_is_found_while_the_older_is_still_in_use(farm: Farm) -> None:
    """Who uses the older one goes on with it; then it goes."""
    older = farm.keep(content="older")
    farm.keep(content="newer").release()
    found = done(farm.daemon().find(KEY))
    assert found is not None
    assert found.state == "newer"
    assert (older.tree / "etc" / "file").read_text() == "older"
    older.release()
    done(farm.daemon().tidy())
    assert farm.names() == [f"{KEY}-2"]


def test_a_layer_in_use_is_not_dropped(farm: Farm) -> None:
    """By whichever daemon, until the last one has released it."""
    made = farm.keep()
    found = done(farm.daemon().find(KEY))
    assert found is not None
    (stored,) = farm.daemon().stored()
    for layer in (made, found):
        assert not done(farm.daemon().drop(stored))
        layer.release()
        layer.release()
    assert done(farm.daemon().drop(stored))
    assert (farm.names(), farm.locks()) == ([], [])
    assert not done(farm.daemon().drop(stored))


def test_one_at_a_time_makes_a_layer(farm: Farm) -> None:
    """The others wait, without blocking, and have their turn when it ends, however it ends."""
    turns: list[str] = []

    async def make(name: str, key: LayerKey, ending: Deferred[None]) -> None:
        async with farm.daemon().turn(key):
            turns.append(name)
            await ending

    endings: list[Deferred[None]] = [Deferred() for _ in range(4)]
    making = [Deferred.fromCoroutine(make(str(number), KEY, ending)) for number, ending in enumerate(endings[:3])]
    Deferred.fromCoroutine(make("other", layer_key("b"), endings[3]))
    assert turns == ["0", "other"]
    farm.clock.pump([0.01] * 100)
    assert turns == ["0", "other"]
    making[1].cancel()
    making[1].addErrback(_expected, CancelledError)
    endings[0].errback(RuntimeError("it cannot be made"))
    making[0].addErrback(_expected, RuntimeError)
    farm.clock.pump([0.1] * 2)
    assert turns == ["0", "other", "2"]
    endings[2].callback(None)
    endings[3].callback(None)
    assert farm.locks() == []


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "etc" / "file").write_text("xy"),
        lambda tree: (tree / "etc" / "file").write_text("y"),
        lambda tree: os.truncate(tree / "etc" / "file", 0),
        lambda tree: (tree / "etc" / "file").chmod(0o4755),
        lambda tree: (tree / "etc" / "file").unlink(),
        lambda tree: (tree / "etc" / "more").touch(),
        lambda tree: (tree / "link").unlink() or (tree / "link").symlink_to("/etc/file"),
        lambda tree: _set_attribute(tree / "etc"),
        shutil.rmtree,
    ],
    ids=["longer", "flipped", "truncated", "chmod", "removed", "added", "link", "attribute", "all of it"],
)
def test_a_layer_that_was_changed_behind_our_back_is_dropped(farm: Farm, change: Any) -> None:
    """At its first use in a daemon's life, and then made anew."""
    farm.keep().release()
    change(farm.directory / "layers" / f"{KEY}-1" / "tree")
    assert done(farm.daemon().find(KEY)) is None
    assert farm.names() == []
    farm.keep().release()
    assert done(farm.daemon().find(KEY)) is not None


def test_a_layer_that_cannot_be_looked_over_is_used(farm: Farm) -> None:
    """It may well be good: a full disk, say, is no reason to make it anew. The next to find it looks again."""
    farm.keep().release()
    daemon = farm.daemon()
    farm.commands.failing = "-I"
    layer = done(daemon.find(KEY))
    assert layer is not None
    layer.release()
    farm.commands.failing = ""
    (farm.directory / "layers" / f"{KEY}-1" / "tree" / "link").unlink()
    assert done(daemon.find(KEY)) is None


def test_a_layer_is_looked_over_once_in_a_daemons_life(farm: Farm) -> None:
    """That takes a moment; who has made it need not look."""
    daemon = farm.daemon()
    done(daemon.keep(KEY, farm.tree(), "")).release()
    other = farm.daemon()
    farm.commands.ran.clear()
    for layers in (daemon, other, other):
        assert done(layers.find(KEY)) is not None
    assert len(farm.commands.ran) == 1


def test_a_layer_that_was_not_yet_on_the_disk_does_not_outlive_the_machine(
    farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut it may have holes. A minute later it has none any more."""
    farm.keep(layer_key("old"))
    farm.clock.advance(61)
    farm.keep(layer_key("new"))
    monkeypatch.setattr("buildd.isolation.stored.boot_id", lambda: "another")
    assert done(farm.daemon().find(layer_key("old"))) is not None
    assert done(farm.daemon().find(layer_key("new"))) is None


def test_layers_are_closed_to_others(farm: Farm) -> None:
    """As the daemon's own directory is."""
    farm.keep()
    assert (farm.directory / "layers").stat().st_mode & 0o007 == 0


def test_what_others_are_making_is_not_debris(farm: Farm) -> None:
    """What the dead have left is: half-made and half-removed layers alike."""
    directory = farm.directory / "layers"
    daemon = farm.daemon()

    async def make() -> list[str]:
        async with daemon.making() as path:
            for name in ("making-0123456789abcdef", "removing-0123456789abcdef"):
                (directory / name / "tree").mkdir(parents=True)
                (directory / f"{name}.01234567").mkdir()
                (directory / "locks" / name).touch()
            path.with_name(f"{path.name}.01234567").mkdir()
            await farm.daemon().tidy()
            assert path.is_dir()
            return farm.names()

    names = done(make())
    assert len(names) == 2
    done(farm.daemon().tidy())
    assert (farm.names(), farm.locks()) == ([], [])


def test_the_least_recently_used_go_when_there_is_no_room(farm: Farm) -> None:
    """None that is in use, and no more than must; when all are in use they stay."""
    keys = [layer_key(str(number)) for number in range(4)]
    layers = [farm.keep(key, "x" * 100_000) for key in keys]
    for age, key in enumerate(keys):
        os.utime(farm.directory / "layers" / f"{key}-1" / "about", (age, age))
    for layer in layers[1:]:
        layer.release()
    size = farm.daemon().stored()[0].bytes
    assert size >= 100_000
    done(farm.daemon(Budget(limit_bytes=3 * size)).make_room())
    assert farm.names() == sorted(f"{keys[number]}-1" for number in (0, 2, 3))
    done(farm.daemon(Budget(limit_bytes=2 * size)).make_room(size))
    assert farm.names() == sorted(f"{keys[number]}-1" for number in (0,))
    done(farm.daemon(Budget(limit_bytes=1)).make_room())
    assert farm.names() == [f"{keys[0]}-1"]


def test_layers_go_before_the_disk_is_full(farm: Farm) -> None:
    """What must stay free of the disk counts, whatever the layers may take."""
    farm.keep().release()
    done(farm.daemon(Budget(free_floor_bytes=1 << 60)).make_room())
    assert farm.names() == []


def test_a_disk_with_few_files_left_is_short_of_room(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that makes many small ones fills it with no bytes at all."""
    farm.keep().release()
    monkeypatch.setattr(Disk, "of", lambda path: Disk(1 << 50, 100, 16384))
    assert farm.daemon().disk_is_short()
    done(farm.daemon().make_room())
    assert farm.names() == []


def test_a_disk_that_makes_files_as_it_needs_them_has_room(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """As btrfs, which tells of no files at all: what it has bytes for it has room for."""
    farm.keep().release()
    monkeypatch.setattr(Disk, "of", lambda path: Disk(1 << 50, 0, 0))
    done(farm.daemon().make_room(1 << 30))
    assert len(farm.names()) == 1


def test_who_needs_room_waits_for_whom_makes_some(farm: Farm) -> None:
    """It may be enough; a build that would be ended for want of it must not be too early."""
    keys = [layer_key(str(number)) for number in range(2)]
    for key in keys:
        farm.keep(key).release()
    farm.commands.removing = Deferred()
    floor = Budget(free_floor_bytes=1 << 60)
    first, second = (Deferred.fromCoroutine(farm.daemon(floor).make_room()) for _ in range(2))
    farm.clock.pump([0.1] * 9)
    assert not (first.called or second.called)
    farm.commands.removing.callback(None)
    assert first.called
    farm.clock.pump([0.1] * 9)
    assert second.called
    assert (farm.names(), farm.locks()) == ([], [])


def test_a_build_that_ends_while_it_has_room_made_leaves_nothing_half_removed(farm: Farm) -> None:
    """What was begun goes on; no more is begun."""
    keys = [layer_key(str(number)) for number in range(2)]
    for key in keys:
        farm.keep(key).release()
    farm.commands.removing = Deferred()
    making = Deferred.fromCoroutine(farm.daemon(Budget(free_floor_bytes=1 << 60)).make_room())
    making.cancel()
    making.addErrback(_expected, CancelledError)
    assert making.called
    assert [name.partition("-")[0] for name in farm.names()].count("removing") == 1
    farm.commands.removing.callback(None)
    assert len(farm.names()) == 1
    assert farm.names()[0].endswith("-1")
    assert farm.locks() == []


def test_a_layer_that_cannot_be_made_leaves_nothing(farm: Farm) -> None:
    """The error is the maker's."""
    with pytest.raises(FileNotFoundError):
        done(farm.daemon().keep(KEY, farm.directory / "nowhere", ""))
    assert (farm.names(), farm.locks()) == ([], [])


def test_what_cannot_be_removed_is_removed_later(farm: Farm) -> None:
    """It is no layer any more, and the next to tidy tries again."""
    farm.keep().release()
    farm.commands.failing = "rm"
    (stored,) = farm.daemon().stored()
    assert done(farm.daemon().drop(stored))
    assert done(farm.daemon().find(KEY)) is None
    assert farm.names()[0].startswith("removing-")
    farm.commands.failing = ""
    done(farm.daemon().tidy())
    assert farm.names() == []


def test_a_note_that_is_none(farm: Farm) -> None:
    """Says nothing of the state of the world."""
    for note in ("", "{", "[]", "7"):
        layer = done(farm.daemon().keep(KEY, farm.tree(), note))
        assert (layer.note, layer.state) == (note, "")
    assert json.loads(layer_note("base", "s", "d")) == {"kind": "base", "state": "s", "description": "d"}


@pytest.mark.parametrize("name", ["about", "seal", "content"])
@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"[" * 100_000,
        b"[]",
        b'{"note": 7, "boot": [], "made": Infinity}',
        b'{"made": -1e300, "content": {}}',
        b'{"digest": 1, "bytes": "x", "inodes": null}',
        b'{"digest": "", "bytes": -5, "inodes": true}',
        b"\xff\xfe",
    ],
)
def test_what_a_broken_disk_says_of_a_layer_holds_nobody_up(farm: Farm, name: str, damaged: bytes) -> None:
    """Neither daemons nor who lists layers; the layer is made anew, or looked over again."""
    farm.keep().release()
    (farm.directory / "layers" / f"{KEY}-1" / name).write_bytes(damaged)
    done(farm.daemon().tidy())
    for stored in farm.daemon().stored():
        assert stored.bytes >= 0
        assert datetime.fromtimestamp(stored.made).year >= 1969
    farm.keep().release()
    assert done(farm.daemon().find(KEY)) is not None


def test_keys_do_not_run_into_each_other() -> None:
    """("ab", "c") and ("a", "bc") are different layers."""
    keys: set[LayerKey] = {layer_key("ab", "c"), layer_key("a", "bc"), layer_key("abc"), layer_key("abc", "")}
    assert len(keys) == 4


def test_layers_that_others_remove_meanwhile_hold_nobody_up(farm: Farm) -> None:
    """A daemon begins, and tidies up, while another makes room, or somebody drops layers by hand."""
    older = [farm.keep(layer_key(name), "older") for name in ("a", "b")]
    for name in ("a", "b"):
        farm.keep(layer_key(name), "newer").release()
    for layer in older:
        layer.release()

    def drop_all(program: str) -> None:
        farm.commands.meanwhile = lambda program: None
        for stored in farm.daemon().stored():
            assert done(farm.daemon().drop(stored))

    assert len(farm.names()) == 4
    farm.commands.meanwhile = drop_all
    done(farm.daemon().tidy())
    assert (farm.names(), farm.locks()) == ([], [])


def test_what_is_on_the_disk_is_told_of_the_layer_that_was_there(farm: Farm) -> None:
    """And not of one that was made anew, under the same name, while all was being written."""
    farm.keep().release()

    def make_anew(program: str) -> None:
        if program == "sync":
            farm.commands.meanwhile = lambda program: None
            for stored in farm.daemon().stored():
                done(farm.daemon().drop(stored))
            farm.keep(content="newer").release()

    farm.commands.meanwhile = make_anew
    farm.clock.advance(61)
    (newer,) = (stored for stored in farm.daemon().stored() if "newer" in stored.note)
    assert not newer.durable
    farm.clock.advance(61)
    assert all(stored.durable for stored in farm.daemon().stored())


def test_a_layer_whose_maker_died_before_it_was_looked_over_counts(farm: Farm) -> None:
    """The next daemon does that, so that what it takes is known."""
    farm.commands.failing = "-I"
    farm.keep(content="x" * 100_000).release()
    farm.commands.failing = ""
    assert farm.daemon().stored()[0].bytes == 0
    done(farm.daemon().tidy())
    assert farm.daemon().stored()[0].bytes >= 100_000
