"""Where packages come from, of real builds on two builders: signed, checked, and built again."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from ftests.journey import PublishingFarm
from ftests.tiny_source import tiny_source
from harness import BuilddTestSetup
from tools.master import CommandFailed

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def farm() -> Iterator[PublishingFarm]:
    """A farm with two builders, and an archive of its own."""
    setup, second = PublishingFarm(), BuilddTestSetup()
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


def test_a_package_is_verified(farm: PublishingFarm, tmp_path: Path) -> None:
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


def test_a_build_is_reproduced(farm: PublishingFarm, tmp_path: Path) -> None:
    """The other builder makes the very same of it."""
    build_id = farm.submit(tiny_source(tmp_path / "source", "same"))
    first = farm.wait_for(build_id)
    told = farm.master.ask("reproduce", str(build_id))
    assert (told["reproduced"], told["same"], told["otherwise"]) == (True, ["same_1.0_amd64.deb"], [])
    assert farm.show(told["reproduction"])["builder"] != first["builder"]


def test_a_build_is_not_reproduced(farm: PublishingFarm, tmp_path: Path) -> None:
    """Of a package with the time in it, it is said which file in it differs, and how."""
    install = "date +%s.%N > debian/tree/usr/share/other/when"
    build_id = farm.submit(tiny_source(tmp_path / "source", "other", install=install))
    farm.wait_for(build_id)
    with pytest.raises(
        CommandFailed, match=r"(?s)is not reproduced by.*other_1.0_amd64.deb: SHA-256.*share/other/when"
    ):
        farm.master.run("reproduce", str(build_id))


def test_with_the_packages_of_then(farm: PublishingFarm, tmp_path: Path) -> None:
    """The archive has moved on, and a snapshot has the build-dependency as it was: so the build is reproduced."""

    def built(name: str, version: str, needs: str = "") -> int:
        copy = (
            "cat /usr/share/needed/file > debian/tree/usr/share/user/file"
            if needs
            else f"echo {version} > debian/tree/usr/share/{name}/file"
        )
        dsc = tiny_source(tmp_path / f"{name}-{version}", name, version, needs=needs, install=copy)
        document = farm.master.ask("submit", "--archive", "mine", "--series", f"debian/{farm.suite}", dsc)
        build_id = int(document["builds"][0]["id"])
        assert farm.wait_for(build_id)["state"] == "built"
        farm.wait_for_package(name, version)
        return build_id

    built("needed", "1.0")
    farm.master.run("archive", "snapshot", "take", "mine")
    user = built("user", "1.0", needs="needed")
    built("needed", "2.0")
    told = farm.master.ask("reproduce", str(user))
    assert (told["reproduced"], told["otherwise"]) == (True, [])


def test_versions_that_the_archive_still_has(farm: PublishingFarm, tmp_path: Path) -> None:
    """A build-dependency has become newer, and its older version is kept: builders choose that, unless told not to."""
    farm.master.run("archive", "change", "mine", "--keep-versions", "1")
    for version in ("1.0", "2.0"):
        install = f"echo {version} > debian/tree/usr/share/kept/file"
        build_id = farm.upload(tiny_source(tmp_path / version, "kept", version, install=install))
        assert farm.wait_for(build_id)["state"] == "built"
        farm.wait_for_package("kept", version)
        if version == "1.0":
            copy = "cat /usr/share/kept/file > debian/tree/usr/share/user-of/file"
            user = farm.upload(tiny_source(tmp_path / "user", "user-of", needs="kept", install=copy))
            assert farm.wait_for(user)["state"] == "built"
    told = farm.master.ask("reproduce", str(user))
    assert (told["reproduced"], told["otherwise"]) == (True, [])
    with pytest.raises(CommandFailed, match=r"kept 2\.0, not 1\.0"):
        farm.master.run("reproduce", "--newest", "--no-diff", str(user))


def test_the_archive_tells(farm: PublishingFarm, tmp_path: Path) -> None:
    """Whoever has a package of the archive, and its address, finds out where it comes from, without the farm."""
    build_id = farm.upload(tiny_source(tmp_path / "source", "told"))
    assert farm.wait_for(build_id)["state"] == "built"
    deb = tmp_path / "told.deb"
    farm.wait_for_package("told", "1.0")
    deb.write_bytes(requests.get(f"{farm.url}/pool/main/t/told/told_1.0_amd64.deb", timeout=10).content)
    sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
    statement, key = tmp_path / "statement", tmp_path / "key"
    statement.write_bytes(requests.get(f"{farm.url}/provenance/{sha256}.json", timeout=10).content)
    key.write_bytes(requests.get(f"{farm.url}/provenance/key.pem", timeout=10).content)
    told = farm.master.run("verify", deb, "--statement", statement, "--key", key)
    assert f"told.deb is what build {build_id} made" in told
    info = requests.get(f"{farm.url}/buildinfo/t/told/told_1.0_amd64.buildinfo", timeout=10).text
    assert sha256 in info
