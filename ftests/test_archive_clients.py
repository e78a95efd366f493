"""Debian's own programs, as Debian 12 and 13 ship them, at archives of ours: dput and dput-ng upload; apt, dget,
apt-file, debootstrap, mmdebstrap, reprepro and apt-ftparchive read. None of them has anything to complain of.

The clients are booted Debian systems (booted.py), set up by what `archive show` prints.
"""

import gzip
import os
import re
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
import requests

from buildmaster.tests.factories import write_deb
from buildmaster.tests.ports import free_ports
from buildmaster.tests.uploading import Upload
from buildmaster.tests.waiting import wait_until
from ftests import minbase
from ftests.archive_client import Client, Shown, show
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
TOOLS = ("gpg", "gpg-agent", "dpkg-dev", "wget", "devscripts", "reprepro", "mmdebstrap", "debootstrap", "apt-utils")
_FIELD = re.compile(r"^([^\s:]+):(.*\n?(?:[ \t].*\n?)*)", re.MULTILINE)
GERMAN = "XB-Description-de: Paket, mit dem eine Farm geprüft wird\n Darin ist eine Datei.\n"


@pytest.fixture(scope="module")
def farm() -> Iterator[FarmTestSetup]:
    """A farm with a daemon, and an archive `mine` that it publishes."""
    web, ftp, sftp = map(str, free_ports(3))
    ports = {("archives", "port"): web, ("uploads", "ftp_port"): ftp, ("uploads", "sftp_port"): sftp}
    setup = FarmTestSetup(settings=ports)
    setup.setUp()
    try:
        setup.master.run("archive", "create", ARCHIVE)
        yield setup
    finally:
        setup.tearDown()


@pytest.fixture(scope="module")
def mine(farm: FarmTestSetup) -> Shown:
    """The archive that is uploaded to."""
    return show(farm, ARCHIVE)


@pytest.fixture(scope="module")
def base(farm: FarmTestSetup, tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """An archive that has all of Debian's smallest system, imported."""
    farm.master.run("archive", "create", "base")
    farm.master.run("archive", "import", "base", "--suite", "bookworm", *minbase.fetch(tmp_path_factory.mktemp("base")))
    shown = show(farm, "base")
    wait_until(lambda: "\nPackage: usr-is-merged\n" in packages(shown), BUILT_S, farm.log)
    return shown


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def client(
    request: pytest.FixtureRequest, farm: FarmTestSetup, mine: Shown, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Client]:
    """A machine with the programs, with dput and apt set up as `archive show` says, and a key that may upload."""
    system = BootedSystem(base_chroot(request.param), tmp_path_factory.mktemp("client") / request.param)
    try:
        system.install(*TOOLS)
        found = Client(system, request.param)
        found.write("root/.dput.cf", mine.text.partition(".dput.cf:")[2].partition("To use it")[0])
        owner = f"Client {request.param} <{request.param}@example.org>"
        system.run(["gpg", "--batch", "--passphrase", "", "--quick-generate-key", owner, "rsa3072", "sign", "never"])
        system.run(["gpg", "--output", "/root/own.gpg", "--export", owner])
        farm.master.run("archive", "uploader", "add", ARCHIVE, str(system.root / "root/own.gpg"))
        found.write("root/.devscripts", "DSCVERIFY_KEYRINGS=/root/own.gpg\n")
        found.use(mine)
        yield found
    finally:
        system.close()


def know_host(client: Client, farm: FarmTestSetup) -> None:
    """Have SFTP's host key known, which dput-ng asks about otherwise, and a key, without which it does not even try."""
    port = farm.master.settings["uploads", "sftp_port"]
    client.system.run(["sh", "-ec", f"mkdir -p ~/.ssh && ssh-keyscan -p {port} 127.0.0.1 >~/.ssh/known_hosts"])
    client.system.run(["sh", "-ec", "test -f ~/.ssh/id_rsa || ssh-keygen -q -t rsa -N '' -f ~/.ssh/id_rsa"])


def upload(client: Client, farm: FarmTestSetup, mine: Shown, tool: str, way: str) -> str:
    """Make, sign and upload a source package by a tool; its name, when apt could see what was built of it."""
    name = f"{tool}-{way or 'ftp'}-{client.suite}"
    client.system.install(tool, "python3-paramiko", "openssh-client")  # dput-ng recommends them.
    if way == "sftp":
        know_host(client, farm)
    there = client.system.root / "root" / name
    tiny_source(there, name)
    client.write(f"root/{name}/german", GERMAN)
    client.system.run([
        "sh", "-ec",
        f"cd /root/{name} && dpkg-source --extract *.dsc source && cd source && cat ../german >>debian/control && "
        "sed -i 1s/unstable/bookworm/ debian/changelog && "
        f"dpkg-buildpackage --build=source --no-check-builddeps --sign-key={client.suite}@example.org",
    ])  # fmt: skip
    client.quietly("dput", f"{ARCHIVE}-{way}".strip("-"), f"/root/{name}/{name}_1.0_source.changes")
    wait_until(lambda: f"Package: {name}\n" in packages(mine), BUILT_S, farm.log)
    return name


def packages(shown: Shown) -> str:
    """An archive's Packages."""
    return index(shown, f"main/binary-{own_architecture()}/Packages")


def index(shown: Shown, path: str) -> str:
    """An index that is gzipped."""
    answer = requests.get(f"{shown.url}/dists/bookworm/{path}.gz", timeout=10)
    answer.raise_for_status()
    return gzip.decompress(answer.content).decode()


# The first section of ~/.dput.cf, which is by FTP, is for all of them; the others not for each.
@pytest.mark.parametrize(
    ("tool", "way"), [("dput", ""), ("dput", "http"), ("dput-ng", ""), ("dput-ng", "sftp"), ("dput-ng", "http")]
)
def test_uploaded_and_installed(client: Client, farm: FarmTestSetup, mine: Shown, tool: str, way: str) -> None:
    """What is uploaded is built, and apt installs it; apt-get source and dget have its source."""
    if (tool, way, client.suite) == ("dput", "http", "trixie"):
        pytest.skip("dput of Debian 13 cannot upload by HTTP to a port, as `archive show` says")
    name = upload(client, farm, mine, tool, way)
    client.quietly("apt-get", "update")
    client.quietly("apt-get", "install", "--yes", name)
    assert (client.system.root / f"usr/share/{name}/file").read_text() == "made by a test\n"
    scratch = f"/srv/{name}"  # apt fetches as a user of its own.
    client.system.run(["mkdir", "--mode=777", scratch, f"{scratch}/apt", f"{scratch}/dget"])
    client.shell(f"cd {scratch}/apt && apt-get source {name}")
    # To unpack it, dpkg-source would have to know the uploader's key, which that of Debian 13 cannot be told.
    dget = f"dget --download-only {mine.url}/pool/main/{name[0]}/{name}/{name}_1.0.dsc"
    assert "All files validated successfully" in client.shell(f"cd {scratch}/dget && {dget}")
    assert (client.system.root / f"{scratch[1:]}/apt/{name}-1.0/debian/control").is_file()


def test_built_again_by_the_client(client: Client) -> None:
    """dpkg-buildpackage builds what apt-get source brings; dpkg-genbuildinfo tells of what."""
    name = f"dput-ftp-{client.suite}"
    client.shell(f"cd /srv/{name}/apt/{name}-1.0 && dpkg-buildpackage --build=binary --no-sign")
    found = client.system.root / f"srv/{name}/apt/{name}_1.0_{own_architecture()}.buildinfo"
    assert f"{name}_1.0_{own_architecture()}.deb" in found.read_text()


def test_in_the_users_language(client: Client) -> None:
    """apt shows a description in a language that the source gives, and in English to who asks for another."""
    name = f"dput-ftp-{client.suite}"
    for language, first in (("de", "Description-de: Paket, mit dem"), ("fr", "Description: package to test")):
        option = f"-oAcquire::Languages={language}"
        client.quietly("apt-get", option, "update")
        assert f"\n{first}" in client.quietly("apt-cache", option, "show", name)
    client.quietly("apt-get", "update")


def test_mirrored_by_reprepro(client: Client, mine: Shown) -> None:
    """reprepro verifies the archive, and takes all of it."""
    conf = client.system.root / "root/mirror/conf"
    conf.mkdir(parents=True)
    client.system.run(["sh", "-ec", f"gpg --import {mine.keyring}"])
    keys = client.system.run(["gpg", "--with-colons", "--list-keys", "Archive"]).splitlines()
    # It wants the key that signs, which is a subkey: a key of which that is one "lists non-signing key", it says.
    (signs,) = (words[4] for words in (line.split(":") for line in keys) if words[0] == "sub" and words[11] == "s")
    architectures = f"{own_architecture()} source"
    (conf / "distributions").write_text(
        f"Codename: bookworm\nArchitectures: {architectures}\nComponents: main\nUpdate: mine\n"
    )
    (conf / "updates").write_text(
        f"Name: mine\nMethod: {mine.url}\nSuite: bookworm\nComponents: main\n"
        f"Architectures: {architectures}\nVerifyRelease: {signs}\n"
    )
    client.quietly("reprepro", "--basedir", "/root/mirror", "update")
    listed = client.system.run(["reprepro", "--basedir", "/root/mirror", "list", "bookworm"])
    assert f"dput-ftp-{client.suite}" in listed


def test_a_system_made_with_it(client: Client, mine: Shown) -> None:
    """mmdebstrap takes packages from it for a new system."""
    name = f"dput-ftp-{client.suite}"
    settings = [f"--aptopt={each}" for each in carried_over()]
    debian = f"deb {find_mirror(client.suite).url} {client.suite} main"
    options = ["--mode=root", "--variant=apt", f"--include={name}", *settings]
    client.quietly("mmdebstrap", *options, client.suite, "/srv/made", debian, mine.line)
    assert (client.system.root / f"srv/made/usr/share/{name}/file").is_file()


@pytest.mark.parametrize("tool", ["debootstrap", "mmdebstrap"])
def test_a_system_made_of_it(client: Client, base: Shown, tool: str) -> None:
    """A whole system comes from an archive of ours alone; dpkg finds nothing wrong with it, and apt goes on with it."""
    client.system.run(["sh", "-ec", base.paragraph("wget ")])
    made = f"/srv/{tool}"
    options = ["--variant=minbase", f"--architectures={own_architecture()}", "bookworm", made]
    if tool == "debootstrap":
        client.shell(f"gpg --dearmor <{base.keyring} >/root/base.gpg")
        options = [each.replace("--architectures", "--arch") for each in options]
        client.quietly(tool, "--keyring=/root/base.gpg", *options, base.url)
    else:
        merged = "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr"  # As debootstrap does it by itself.
        client.quietly(tool, "--mode=root", "--include=apt", merged, *options, base.line)
    assert client.system.run(["chroot", made, "dpkg", "--audit"]) == ""
    there = set(client.system.run(["chroot", made, "dpkg-query", "--show", "--showformat=${Package}\\n"]).split())
    assert {"apt", "libc6", "bash", "tzdata"} <= there and len(there) > 80
    shutil.copy(client.system.root / base.keyring[1:], client.system.root / made[1:] / "etc/apt/trusted.gpg.d/base.asc")
    client.write(f"{made[1:]}/etc/apt/sources.list", f"deb {base.url} bookworm main\n")
    client.quietly("chroot", made, "apt-get", "update")
    client.quietly("chroot", made, "apt-get", "--yes", "dist-upgrade")


def test_indices_that_apt_ftparchive_makes(client: Client, farm: FarmTestSetup, base: Shown) -> None:
    """They say of Debian's packages in the pool what ours do, field by field."""
    there = client.system.root / "srv/base"
    if not there.exists():
        shutil.copytree(farm.master.directory / "archives/debian/base/pool", there / "pool")
    wanted = "-oAPT::FTPArchive::MD5=false -oAPT::FTPArchive::SHA1=false -oAPT::FTPArchive::SHA512=false"
    made = client.system.run(["sh", "-ec", f"cd /srv/base && apt-ftparchive {wanted} packages pool"])
    assert stanzas(made) == stanzas(packages(base))
    wanted = "-oAPT::FTPArchive::SHA512=false"
    made = client.system.run(["sh", "-ec", f"cd /srv/base && apt-ftparchive {wanted} sources pool"])
    beside = {"Section", "Priority"}  # It takes these from an override file.
    assert stanzas(made, beside) == stanzas(index(base, "main/source/Sources"), beside)


def stanzas(text: str, without: Collection[str] = ()) -> dict[str, dict[str, str]]:
    """The fields of an index's stanzas, by what is one package's alone."""
    found = {}
    for stanza in filter(None, (each.strip("\n") for each in text.split("\n\n"))):
        fields = dict(_FIELD.findall(stanza))
        key = fields.get("Filename") or f"{fields['Package']} {fields['Version']}"
        found[key] = {name: value.strip() for name, value in fields.items() if name not in without}
    return found


def test_a_private_archive(client: Client, farm: FarmTestSetup, tmp_path: Path) -> None:
    """apt reads it with a token in auth.conf, and installs what a source there needs to be built; not without it."""
    name = f"secret-{client.suite}"
    farm.master.run("archive", "create", name, "--private")
    tool, user = f"tool-{client.suite}", f"user-{client.suite}"
    for source, needs in ((tool, {}), (user, {"Build-Depends": tool})):
        folder = Upload(name=source, signer="", dsc_fields=needs).write(tmp_path / source).parent
        deb = write_deb(tmp_path, source, files={f"usr/share/{source}/file": b"x"}, architecture=own_architecture())
        farm.master.run("archive", "import", name, "--suite", "bookworm", *folder.glob("*.dsc"), deb)
    said = farm.master.run("archive", "access", "add", name, client.suite)
    shown = show(farm, name)
    client.use(shown)
    refused = client.system.run(["apt-get", "update"], check=False)
    assert f"{shown.url}/dists/bookworm/InRelease  401  Unauthorized" in refused, refused
    (machine,) = re.findall(r"^.*auth\.conf\.d/: (machine .*)$", said, re.MULTILINE)
    client.write("etc/apt/auth.conf.d/secret.conf", f"{machine}\n")
    client.quietly("apt-get", "update")
    client.quietly("apt-get", "build-dep", "--yes", user)
    assert (client.system.root / f"usr/share/{tool}/file").is_file()
    client.quietly("apt-get", "install", "--yes", user)


def test_what_is_for_the_installer(client: Client, farm: FarmTestSetup, tmp_path: Path) -> None:
    """apt sees a .udeb in the component of Debian's installer, where somebody asks for that, and in no other."""
    name = f"installer-{client.suite}"
    farm.master.run("archive", "create", name)
    folder = Upload(name=name, signer="").write(tmp_path).parent
    fields = f"Source: {name}\nSection: debian-installer"
    udeb = write_deb(tmp_path, f"{name}-udeb", architecture=own_architecture(), fields=fields, suffix=".udeb")
    farm.master.run("archive", "import", name, "--suite", "bookworm", *folder.glob("*.dsc"), udeb)
    shown = show(farm, name)
    installers = f"main/debian-installer/binary-{own_architecture()}/Packages"
    wait_until(lambda: has(shown, installers), BUILT_S, farm.log)
    client.use(shown)
    client.quietly("apt-get", "update")
    assert "No packages found" in client.system.run(["apt-cache", "show", f"{name}-udeb"], check=False)
    sources = client.system.root / f"etc/apt/sources.list.d/debian-{name}.sources"
    sources.write_text(sources.read_text().replace("Components: main", "Components: main main/debian-installer"))
    client.quietly("apt-get", "update")
    assert f"/{udeb.name}\n" in client.quietly("apt-cache", "show", f"{name}-udeb")
    client.shell(f"cd /tmp && apt-get download {name}-udeb && test -f {udeb.name}")


def has(shown: Shown, path: str) -> bool:
    """Whether an archive has an index."""
    return requests.get(f"{shown.url}/dists/bookworm/{path}.gz", timeout=10).ok


def test_files_found(client: Client, mine: Shown) -> None:
    """apt-file knows who has a file, by Contents. (It is the last: apt fetches those each time, once it is there.)"""
    client.system.install("apt-file")
    ours = f"etc/apt/sources.list.d/debian-{ARCHIVE}.sources"
    only = f"-oDir::Etc::SourceList=/{ours} -oDir::Etc::SourceParts=- -oAPT::Get::List-Cleanup=false"
    client.shell(f"apt-get {only} update")
    name = f"dput-ftp-{client.suite}"
    assert client.quietly("apt-file", "search", f"/usr/share/{name}/file") == f"{name}: /usr/share/{name}/file\n"
