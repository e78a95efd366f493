"""Where packages come from, of real builds on two builders: signed, checked, and built again."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ftests.tiny_source import tiny_source
from harness import BuilddTestSetup, FarmTestSetup
from tools.master import CommandFailed

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def farm() -> Iterator[FarmTestSetup]:
    """A farm with two builders."""
    setup, second = FarmTestSetup(), BuilddTestSetup()
    setup.setUp()
    try:
        second.setUp()
        try:
            setup.master.run("add-builder", second.url, "--name", "second")
            yield setup
        finally:
            second.tearDown()
    finally:
        setup.tearDown()


def test_a_package_is_verified(farm: FarmTestSetup, tmp_path: Path) -> None:
    """What a builder made is told apart from what only looks like it, with all that was installed meanwhile."""
    build_id = farm.submit(tiny_source(tmp_path / "source"))
    assert farm.wait_for(build_id)["state"] == "built"
    farm.master.run("fetch", str(build_id), "--to", tmp_path / "results")
    (deb,) = (tmp_path / "results").glob("*.deb")
    told = farm.master.ask("verify", deb)
    assert (told["source"], told["version"]) == ("tiny", "1.0")
    assert any(each.startswith("pkg:deb/debian/dpkg-dev@") for each in told["installed"])
    assert told["chroot_sha256"] == farm.show(build_id)["chroot_sha256"]
    deb.write_bytes(deb.read_bytes() + b"\n")
    with pytest.raises(CommandFailed, match="this farm has built nothing of SHA-256"):
        farm.master.run("verify", deb)


def test_a_build_is_reproduced(farm: FarmTestSetup, tmp_path: Path) -> None:
    """The other builder makes the very same of it."""
    build_id = farm.submit(tiny_source(tmp_path / "source", "same"))
    first = farm.wait_for(build_id)
    told = farm.master.ask("reproduce", str(build_id))
    assert (told["reproduced"], told["same"], told["otherwise"]) == (True, ["same_1.0_amd64.deb"], [])
    assert farm.show(told["reproduction"])["builder"] != first["builder"]


def test_a_build_is_not_reproduced(farm: FarmTestSetup, tmp_path: Path) -> None:
    """Of a package with the time in it, it is said which file in it differs, and how."""
    install = "date +%s.%N > debian/tree/usr/share/other/when"
    build_id = farm.submit(tiny_source(tmp_path / "source", "other", install=install))
    farm.wait_for(build_id)
    with pytest.raises(
        CommandFailed, match=r"(?s)is not reproduced by.*other_1.0_amd64.deb: SHA-256.*share/other/when"
    ):
        farm.master.run("reproduce", str(build_id))
