"""What people see of layers, and do with them."""

import argparse
import json
import os
from pathlib import Path

import pytest

from buildd import cachecommand
from buildd.cachecommand import NoSuchLayer
from buildd.config import read_config
from buildd.isolation.layers import Layer, LayerKey, layer_key, layer_note
from buildd.tests.layers_farm import Farm, done

KEYS = (LayerKey("ab" + "0" * 62), LayerKey("ac" + "0" * 62), layer_key("c"))


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    return Farm(tmp_path)


def keep(farm: Farm, key: LayerKey, used: float = 1000.0) -> Layer:
    note = json.loads(layer_note("installed", "s", f"7 packages, first for {key[:2]}\n\x1b[1m")) | {"lists": [1, 2]}
    layer = done(farm.daemon().keep(key, farm.tree("x" * 3_000_000), json.dumps(note)))
    os.utime(farm.directory / "layers" / f"{key}-1" / "about", (used, used))
    return layer


def run(farm: Farm, *words: str) -> int:
    parser = argparse.ArgumentParser()
    cachecommand.add_arguments(parser, lambda action: None)
    config = read_config(None, {}, {"directory": str(farm.directory), "architecture": "amd64"})
    return cachecommand.run(parser.parse_args(words), config)


def test_a_list_of_layers(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    """Those used last come first; nothing that a package wrote reaches the terminal as it is."""
    keep(farm, KEYS[0], 1000).release()
    held = keep(farm, KEYS[1], 2000)
    assert run(farm, "list") == 0
    heading, newer, older, sum_up = capsys.readouterr().out.splitlines()
    assert heading.split() == ["KEY", "KIND", "SIZE", "INODES", "MADE", "USED", "NOW", "MADE", "FROM"]
    assert newer.startswith("ac0000000000  installed  3M    4 ")
    assert newer.endswith("in use  7 packages, first for ac\ufffd\ufffd[1m")
    assert older.startswith("ab0000000000")
    assert "in use" not in older
    assert sum_up == "2 layers, 6M"
    held.release()


def test_a_list_for_programs(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    """All of it, and what the note has besides as it is; an empty list where there are none."""
    assert run(farm, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == []
    keep(farm, KEYS[0]).release()
    assert run(farm, "list", "--json") == 0
    (layer,) = json.loads(capsys.readouterr().out)
    assert layer["key"] == KEYS[0]
    assert (Path(layer["path"]) / "etc/file").exists()
    assert layer["note"]["lists"] == [1, 2]
    assert layer["used"] == "1970-01-01T00:16:40+00:00"
    assert (layer["in_use"], layer["inodes"]) == (False, 4)


def test_no_layers(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    """The directory is told, which may be the wrong one."""
    assert run(farm, "list") == 0
    assert capsys.readouterr() == ("", f"no layers in {farm.directory / 'layers'}\n")


def test_a_layer_is_named_by_the_beginning_of_its_key(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    """As much of it as no other has."""
    for key in KEYS:
        keep(farm, key).release()
    assert run(farm, "show", "ac") == 0
    assert f"key: {KEYS[1]}\n" in capsys.readouterr().out
    for wrong, complaint in (("a", "2 layers have keys that begin with 'a'"), ("zz", "no layer has a key")):
        assert run(farm, "show", wrong) == 1
        assert complaint in capsys.readouterr().err


def test_what_is_dropped(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    """What was named, unless it is in use."""
    keep(farm, KEYS[0]).release()
    held = keep(farm, KEYS[1])
    daemon = farm.daemon()
    assert done(cachecommand.drop(daemon, daemon.stored())) == 1
    assert sorted(line[:21] for line in capsys.readouterr().out.splitlines()) == [
        "ab0000000000  dropped",
        "ac0000000000  in use ",
    ]
    assert farm.names() == [f"{KEYS[1]}-1"]
    held.release()
    assert done(cachecommand.drop(daemon, daemon.stored())) == 0


def test_who_is_not_used_for_long(farm: Farm) -> None:
    """Neither those used since, nor those in use now."""
    keep(farm, KEYS[0], 1000).release()
    keep(farm, KEYS[1], 2000).release()
    held = keep(farm, KEYS[2], 1000)
    arguments = argparse.Namespace(all=False, unused_for=500.0, keys=[])
    chosen = cachecommand._chosen(farm.daemon().stored(), arguments, 2400)
    assert [layer.key for layer in chosen] == [KEYS[0]]
    held.release()


@pytest.mark.parametrize("words", [["drop"], ["drop", "--all", "ab"], ["drop", "--unused-for", "7"], []])
def test_what_to_drop_must_be_said(farm: Farm, words: list[str]) -> None:
    """In one way."""
    with pytest.raises(SystemExit) as caught:
        run(farm, *words)
    assert caught.value.code == 2


def test_verifying_finds_changed_content(farm: Farm, capsys: pytest.CaptureFixture[str]) -> None:
    """Which a daemon, that looks at metadata, would not; no daemon puts a build on that layer from then on."""
    keep(farm, KEYS[0]).release()
    keep(farm, KEYS[1]).release()
    farm.clock.advance(61)
    keep(farm, KEYS[2]).release()
    path = farm.directory / "layers" / f"{KEYS[1]}-1" / "tree" / "etc" / "file"
    status = path.stat()
    path.write_text("y" * 3_000_000)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    daemon = farm.daemon()
    held = done(daemon.find(KEYS[1]))
    assert held is not None
    assert done(cachecommand.verify(farm.daemon(), sorted(daemon.stored(), key=lambda stored: stored.key))) == 1
    out, told = capsys.readouterr()
    assert f"`cache drop {KEYS[1][:12]}`" in told
    lines = out.splitlines()
    assert ["good" in line for line in lines] == [key != KEYS[1] for key in sorted(KEYS)]
    assert done(daemon.find(KEYS[1])) is None
    held.release()


def test_another_users_layers_are_not_touched(farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else has the ids that their files belong to."""
    keep(farm, KEYS[0]).release()
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    assert run(farm, "drop", "--all") == 1
    assert run(farm, "verify") == 1
    assert len(farm.names()) == 1


def test_keys_are_found_once(farm: Farm) -> None:
    """Whoever names one twice drops it once."""
    keep(farm, KEYS[0]).release()
    stored = farm.daemon().stored()
    assert len(cachecommand._named(stored, ["ab", KEYS[0]])) == 1
    with pytest.raises(NoSuchLayer):
        cachecommand._named(stored, ["ab", "b"])
