"""Chroots that were unpacked before."""

from pathlib import Path
from typing import Any

from buildd.isolation.bases import Bases
from buildd.isolation.layers import Budget, layer_key
from buildd.protocol import Sha1
from buildd.tests.layers_farm import Farm, done

SHA1 = Sha1("1" * 40)


def test_a_build_that_begins_on_a_short_disk_makes_room(tmp_path: Path) -> None:
    """Layers go that nobody uses, before the build fails for want of space; not its own chroot, nor else any."""
    farm, nothing = Farm(tmp_path), Path("/nowhere")
    farm.keep(layer_key("base", SHA1)).release()
    farm.keep(layer_key("unused")).release()
    anything: Any = None
    for floor_bytes, left in ((0, 2), (1 << 60, 1)):
        layers = farm.daemon(Budget(free_floor_bytes=floor_bytes))
        base = done(Bases(layers, anything).unpack(nothing, SHA1, anything))
        assert base.tree.is_dir()
        assert len(farm.names()) == left
        base.release()
