"""A root that is an overlay, as the daemon reaches into it from outside."""

from pathlib import Path
from typing import Any, cast

from buildd.isolation.mounted import MountedRoot


def test_a_file_is_not_put_through_a_link(tmp_path: Path) -> None:
    """An earlier command of the build's may have made one at that name, and outside it leads about the host."""
    root = MountedRoot(cast(Any, None), [], tmp_path / "root-1", cast(Any, None))
    host = tmp_path / "host"
    host.write_text("the host's")
    (root.changes / "file").symlink_to(host)
    root.put("file", b"ours")
    assert (root.changes / "file").read_bytes() == b"ours"
    assert host.read_text() == "the host's"
