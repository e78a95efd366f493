"""The whole way: a source package is uploaded, built, published and installed, by the programs that people use."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from sqlalchemy import select

from buildmaster import credentials
from buildmaster.farm import Farm
from buildmaster.tables import build
from ftests.journey import Client, PublishingFarm
from ftests.tiny_source import tiny_source
from harness import base_chroot
from tools.machines_apt import find_mirror
from tools.places import Places, default_root
from tools.source_package import PrivateApt

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.geteuid() != 0, reason="a system of its own needs root")]

WARNING = re.compile(r"^[WEN]: .*|.*[Ww]arning.*", re.MULTILINE)
RELEASED_S = 5.0


@pytest.fixture
def farm() -> Iterator[PublishingFarm]:
    """In which nothing was uploaded yet."""
    farm = PublishingFarm()
    farm.setUp()
    yield farm
    farm.tearDown()


@pytest.fixture
def client() -> Iterator[Client]:
    """A Debian 12 that knows no archive yet."""
    client = Client(base_chroot())
    yield client
    client.close()


@pytest.fixture
def newer() -> Iterator[Client]:
    """A Debian 13 that knows no archive yet: its apt has signatures checked by another program, which asks for more."""
    client = Client(base_chroot("trixie"))
    yield client
    client.close()


def without_warnings(said: str) -> str:
    """What apt said, in which nothing is to be worried about."""
    assert not WARNING.findall(said), said
    return said


def test_hello(farm: PublishingFarm, client: Client, newer: Client, tmp_path: Path) -> None:
    """dput, and some seconds later `apt install`; the source comes back as it went in."""
    sources = PrivateApt(Places(default_root()).apt / "bookworm", find_mirror("bookworm"), "bookworm")
    build_id = farm.upload(sources.fetch("hello", tmp_path))
    assert farm.wait_for(build_id)["state"] == "built"
    farm.wait_for_package("hello", "2.10-3")
    for each in (client, newer):
        each.use(farm.url)
        without_warnings(each.run("apt-get", "update"))
        without_warnings(each.run("apt-get", "install", "-y", "--no-install-recommends", "hello"))
        assert each.run("hello") == "Hello, world!\n"
    assert farm.url in client.run("apt-cache", "policy", "hello")
    without_warnings(client.run("sh", "-ec", "cd /tmp; apt-get source hello; test -f hello-*/debian/control"))
    client.run("sh", "-ec", "cd /tmp; apt-get download hello; dpkg-deb -I hello_*.deb")
    # Without devscripts' word on the signature: the key is nobody's that this machine knows.
    dget = ["dget", "--allow-unauthenticated", "--download-only", f"{farm.url}/pool/main/h/hello/hello_2.10-3.dsc"]
    (tmp_path / "got").mkdir()
    done = subprocess.run(dget, cwd=tmp_path / "got", check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "got/hello_2.10-3.dsc").read_bytes() == (tmp_path / "hello_2.10-3.dsc").read_bytes()
    tarball = tmp_path / "system.tar"
    line = f"deb [signed-by={client.root}/etc/apt/keyrings/farm.asc] {farm.url} bookworm main"
    mirror = find_mirror("bookworm").line("deb", "bookworm")
    bootstrap = ["mmdebstrap", "--variant=extract", "--include=hello", "bookworm", str(tarball), line, mirror]
    done = subprocess.run(bootstrap, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    members = subprocess.run(["tar", "-tf", tarball], check=True, capture_output=True, text=True).stdout
    assert "./usr/bin/hello" in members.splitlines()


def test_packages_that_need_each_other(farm: PublishingFarm, client: Client, tmp_path: Path) -> None:
    """In a private archive, a source waits for what it needs, and is built as soon as that is published; a rebuild
    comes after it. The passwords that builds read the archive with are in no log and on no disk."""
    farm.master.run("change-archive", farm.archive, "--private")
    url = str(farm.master.ask("archive", "access", "add", farm.archive, "ada")["url"])
    assert requests.get(f"{farm.url}/dists/bookworm/InRelease", timeout=10).status_code == 401
    waits = farm.upload(tiny_source(tmp_path / "b", "debfarm-user", needs="debfarm-tool"))
    assert farm.wait_for(waits, "dep-wait")["dependencies"] == "debfarm-tool"
    tool = farm.upload(tiny_source(tmp_path / "a", "debfarm-tool"))
    assert farm.wait_for(tool)["state"] == "built"
    farm.wait_for_package("debfarm-tool", "1.0", url)
    published = time.monotonic()
    farm.wait_for(waits, "needs-build", "building", "gathering", "built", timeout_s=RELEASED_S)
    assert time.monotonic() - published < RELEASED_S
    assert farm.wait_for(waits)["state"] == "built"
    log = farm.master.run("log", str(waits), "--no-follow")
    assert re.search(r"Get:\d+ \S+/debian/mine bookworm/main \S+ debfarm-tool ", log)
    rebuilt = farm.master.ask("rebuild", "debfarm-user", "--archive", farm.archive, "--reason", "New debfarm-tool")
    (build,) = rebuilt["builds"]
    assert farm.wait_for(build["id"])["state"] == "built"
    farm.wait_for_package("debfarm-user", "1.0+b1", url)
    client.use(url)
    without_warnings(client.run("apt-get", "update"))
    without_warnings(client.run("apt-get", "install", "-y", "debfarm-user"))
    assert client.run("dpkg-query", "-W", "-f", "${Version}", "debfarm-user") == "1.0+b1"
    nowhere_a_password(farm)


def nowhere_a_password(farm: PublishingFarm) -> None:
    """Not one that is dead, either: where it could be read it could have been used. The folder with the lists that the
    master fetches for itself is for nobody else."""
    secret = (farm.master.directory / "secrets" / credentials.SECRET).read_text().strip()
    opened = Farm.open(farm.master.directory)
    try:
        with opened.reading() as connection:
            attempts = connection.execute(select(build.c.id, build.c.builder_id, build.c.started_at)).all()
    finally:
        opened.close()
    passwords = [credentials.of_build(secret, *attempt).password for attempt in attempts]
    logs = [farm.log(), farm.buildd.log()]
    logs += [farm.master.run("log", str(attempt.id), "--no-follow") for attempt in attempts]
    assert len(attempts) == 3 and not any(word in log for log in logs for word in (*passwords, secret))
    pattern = "|".join(passwords)
    folders = [str(farm.master.directory), str(farm.buildd.directory)]
    found = subprocess.run(["grep", "-rlE", pattern, *folders], check=False, capture_output=True, text=True)
    assert found.stdout == ""
