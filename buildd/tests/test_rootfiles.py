"""What runs in a root before packages are built there, as far as any directory can stand for that root."""

import subprocess
from pathlib import Path

import pytest

from buildd.dpkg import BUILD_PATH
from buildd.managers.rootfiles import FIT


@pytest.mark.parametrize("kind", ["nothing", "directory", "link"])
def test_nothing_may_be_where_the_package_is_built(tmp_path: Path, kind: str) -> None:
    """Neither from the chroot's maker, nor from a build-dependency; a link that leads nowhere counts as well."""
    place = tmp_path / "place"
    if kind == "directory":
        place.mkdir()
    elif kind == "link":
        place.symlink_to("nowhere")
    script = FIT.replace(BUILD_PATH, str(place))
    said = subprocess.run(["sh", "-c", script], stdout=subprocess.PIPE, text=True, check=True).stdout
    assert (said == f"{place} is in the way\n") == (kind != "nothing")
    assert said.count("\n") == 1
