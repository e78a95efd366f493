"""Debian's own programs, as Debian 12 and 13 ship them, at an archive of ours: dput and dput-ng upload; apt, dget,
mmdebstrap and reprepro read it. None of them has anything to complain of.

The clients are booted Debian systems (booted.py), set up by what `archive show` prints.
"""

import gzip
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests

from buildmaster.tests.ports import free_ports
from buildmaster.tests.waiting import wait_until
from ftests.booted import BootedSystem
from ftests.tiny_source import tiny_source
from harness import FarmTestSetup, base_chroot, own_architecture
from tools.machines_apt import carried_over, find_mirror

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may boot a system that has users of its own"),
]

ARCHIVE = "mine"
BUILT_S = 120.0  # From an upload until apt sees the package.
TOOLS = ("gpg", "gpg-agent", "dpkg-dev", "wget", "devscripts", "reprepro", "mmdebstrap")
COMPLAINTS = re.compile(
    r"^(W|E|N|Warning|Error):|\b(warning|error|unable|fail(ed|ure)?)\b", re.IGNORECASE | re.MULTILINE
)


@pytest.fixture(scope="module")
def farm() -> Iterator[FarmTestSetup]:
    """A farm with a daemon, and an archive `mine` that it publishes."""
    web, ftp = free_ports(2)
    setup = FarmTestSetup(settings={("archives", "port"): str(web), ("uploads", "ftp_port"): str(ftp)})
    setup.setUp()
    try:
        setup.master.run("archive", "create", ARCHIVE)
        yield setup
    finally:
        setup.tearDown()


@dataclass
class Client:
    """A machine of somebody who uploads to the archive, and takes packages from it."""

    system: BootedSystem
    suite: str
    shown: str  # What `archive show` says.
    url: str

    def quietly(self, *argv: str) -> str:
        """Run a program that has nothing to complain of."""
        said = self.system.run(argv)
        assert not COMPLAINTS.search(said), said
        return said

    def paragraph(self, first: str) -> str:
        """The part of what is shown that begins so, up to an empty line."""
        return self.shown[self.shown.index(first) :].partition("\n\n")[0] + "\n"

    def write(self, path: str, text: str) -> None:
        """Write a file in the system."""
        (self.system.root / path).write_text(text)


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def client(
    request: pytest.FixtureRequest, farm: FarmTestSetup, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A machine with the programs, with dput and apt set up as `archive show` says, and a key that may upload."""
    system = BootedSystem(base_chroot(request.param), tmp_path_factory.mktemp("client") / request.param)
    try:
        system.install(*TOOLS)
        document = farm.master.ask("archive", "show", ARCHIVE)
        found = Client(system, request.param, farm.master.run("archive", "show", ARCHIVE), str(document["url"]))
        found.write("root/.dput.cf", found.shown.partition(".dput.cf:")[2].partition("To use it")[0])
        owner = f"Client {request.param} <{request.param}@example.org>"
        system.run(["gpg", "--batch", "--passphrase", "", "--quick-generate-key", owner, "rsa3072", "sign", "never"])
        system.run(["gpg", "--output", "/root/own.gpg", "--export", owner])
        farm.master.run("archive", "uploader", "add", ARCHIVE, str(system.root / "root/own.gpg"))
        found.write("root/.devscripts", "DSCVERIFY_KEYRINGS=/root/own.gpg\n")
        system.run(["sh", "-ec", found.paragraph("wget ")])
        sources = re.search(r"/etc/apt/(sources\.list\.d/\S+\.sources)", found.shown)
        assert sources is not None
        found.write(f"etc/apt/{sources[1]}", found.paragraph("Types:"))
        yield found
    finally:
        system.close()


def upload(client: Client, farm: FarmTestSetup, tool: str) -> str:
    """Make, sign and upload a source package by a tool; its name, when apt could see what was built of it."""
    name = f"{tool}-{client.suite}"
    client.system.install(tool)
    there = client.system.root / "root" / name
    tiny_source(there, name)
    commands = (
        f"cd /root/{name} && dpkg-source --extract *.dsc source && cd source && "
        "sed -i 1s/unstable/bookworm/ debian/changelog && "
        f"dpkg-buildpackage --build=source --no-check-builddeps --sign-key={client.suite}@example.org"
    )
    client.system.run(["sh", "-ec", commands])
    # The first section, which is FTP, all of them can use; HTTP at a port dput of Debian 13 cannot.
    to = f"{ARCHIVE}-http" if (tool, client.suite) == ("dput-ng", "bookworm") else ARCHIVE
    client.quietly("dput", to, f"/root/{name}/{name}_1.0_source.changes")
    index = f"{client.url}/dists/bookworm/main/binary-{own_architecture()}/Packages.gz"
    wait_until(lambda: f"Package: {name}\n" in text_of(index), BUILT_S, farm.log)
    return name


def text_of(index: str) -> str:
    """What an index says that is gzipped."""
    answer = requests.get(index, timeout=10)
    answer.raise_for_status()
    return gzip.decompress(answer.content).decode()


@pytest.mark.parametrize("tool", ["dput", "dput-ng"])
def test_uploaded_and_installed(client: Client, farm: FarmTestSetup, tool: str) -> None:
    """What is uploaded is built, and apt installs it; apt-get source and dget have its source."""
    name = upload(client, farm, tool)
    client.quietly("apt-get", "update")
    client.quietly("apt-get", "install", "--yes", name)
    assert (client.system.root / f"usr/share/{name}/file").read_text() == "made by a test\n"
    scratch = f"/srv/{name}"  # apt fetches as a user of its own.
    client.system.run(["mkdir", "--mode=777", scratch, f"{scratch}/apt", f"{scratch}/dget"])
    client.quietly("sh", "-ec", f"cd {scratch}/apt && apt-get source {name}")
    # To unpack it, dpkg-source would have to know the uploader's key, which that of Debian 13 cannot be told.
    dget = f"dget --download-only {client.url}/pool/main/{name[0]}/{name}/{name}_1.0.dsc"
    assert "All files validated successfully" in client.quietly("sh", "-ec", f"cd {scratch}/dget && {dget}")
    assert (client.system.root / f"{scratch[1:]}/apt/{name}-1.0/debian/control").is_file()


def test_mirrored_by_reprepro(client: Client) -> None:
    """reprepro verifies the archive, and takes all of it."""
    conf = client.system.root / "root/mirror/conf"
    conf.mkdir(parents=True)
    client.system.run(["sh", "-ec", "gpg --import /etc/apt/keyrings/*.asc"])
    keys = client.system.run(["gpg", "--with-colons", "--list-keys", "Archive"]).splitlines()
    # It wants the key that signs, which is a subkey: a key of which that is one "lists non-signing key", it says.
    (signs,) = (words[4] for words in (line.split(":") for line in keys) if words[0] == "sub" and words[11] == "s")
    architectures = f"{own_architecture()} source"
    (conf / "distributions").write_text(
        f"Codename: bookworm\nArchitectures: {architectures}\nComponents: main\nUpdate: mine\n"
    )
    (conf / "updates").write_text(
        f"Name: mine\nMethod: {client.url}\nSuite: bookworm\nComponents: main\n"
        f"Architectures: {architectures}\nVerifyRelease: {signs}\n"
    )
    client.quietly("reprepro", "--basedir", "/root/mirror", "update")
    listed = client.system.run(["reprepro", "--basedir", "/root/mirror", "list", "bookworm"])
    assert f"dput-{client.suite}" in listed


def test_a_system_made_with_it(client: Client) -> None:
    """mmdebstrap takes packages from it for a new system."""
    name = f"dput-{client.suite}"
    lines = [line for line in client.shown.splitlines() if line.startswith("deb [")]
    settings = [f"--aptopt={each}" for each in carried_over()]
    base = f"deb {find_mirror(client.suite).url} {client.suite} main"
    options = ["--mode=root", "--variant=apt", f"--include={name}", *settings]
    client.quietly("mmdebstrap", *options, client.suite, "/srv/made", base, *lines)
    assert (client.system.root / f"srv/made/usr/share/{name}/file").is_file()
