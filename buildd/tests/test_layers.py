"""Layers are whole or absent."""

import os
from pathlib import Path

from buildd.isolation.layers import LayerKey, Layers, layer_key


def changes(tmp_path: Path) -> Path:
    (tmp_path / "upper").mkdir()
    (tmp_path / "upper" / "file").write_text("x")
    return tmp_path / "upper"


def test_a_layer_that_was_kept_is_found(tmp_path: Path) -> None:
    """With its note, by its key, also by the next daemon."""
    key = layer_key("a", "b")
    Layers(tmp_path / "layers").keep(key, changes(tmp_path), "of today")
    layer = Layers(tmp_path / "layers").find(key)
    assert layer is not None
    assert (layer.note, (layer.tree / "file").read_text()) == ("of today", "x")
    assert not (tmp_path / "upper").exists()


def test_what_a_crash_left_half_made_is_no_layer(tmp_path: Path) -> None:
    """It is not found, and is named as debris; so is what was being removed."""
    layers = Layers(tmp_path / "layers")
    key = layer_key("a")
    (tmp_path / "layers" / f"making-{key}" / "tree").mkdir(parents=True)
    assert layers.find(key) is None
    assert [path.name for path in layers.debris()] == [f"making-{key}"]
    layers.keep(key, changes(tmp_path), "")
    assert layers.find(key) is not None


def test_a_retired_layer_is_gone_at_once(tmp_path: Path) -> None:
    """Before its files are removed."""
    layers = Layers(tmp_path / "layers")
    key = layer_key("a")
    layers.keep(key, changes(tmp_path), "")
    left = layers.retire(key)
    assert left is not None
    assert (left / "tree" / "file").exists()
    assert layers.find(key) is None
    assert layers.retire(key) is None


def test_those_used_longest_ago_go_first(tmp_path: Path) -> None:
    """Finding a layer counts as using it."""
    layers = Layers(tmp_path / "layers")
    keys = [layer_key(str(number)) for number in range(3)]
    for age, key in enumerate(keys):
        layers.keep(key, changes(tmp_path), "")
        os.utime(tmp_path / "layers" / key, (age, age))
    layers.find(keys[0])
    assert layers.least_used(beyond=2) == [keys[1]]
    assert layers.least_used(beyond=3) == []


def test_keys_do_not_run_into_each_other() -> None:
    """("ab", "c") and ("a", "bc") are different layers."""
    keys: set[LayerKey] = {layer_key("ab", "c"), layer_key("a", "bc"), layer_key("abc"), layer_key("abc", "")}
    assert len(keys) == 4
