"""Comparing what this farm builds with what sbuild alone builds of the same source, in the same chroot."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ftests.stock_client import StockClient
from tools.account import build_account

SUITE = "bookworm"
BUILDERS = ("sbuild", "direct")
LIST = Path(__file__).with_name("fifty_packages.txt")

Packages = Mapping[str, bytes]  # Name of a .deb or .udeb to its content.


@dataclass(frozen=True)
class Candidate:
    """A line of the list."""

    package: str
    kind: str = ""
    options: tuple[str, ...] = ()  # Words for DEB_BUILD_OPTIONS.


def candidates() -> dict[str, Candidate]:
    """The list, by package."""
    found = {}
    for line in LIST.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            package, kind, options = (part.strip() for part in f"{line}||".split("|")[:3])
            found[package] = Candidate(package, kind, tuple(options.split()))
    return found


@dataclass
class Compared:
    """What came of one package: for each of our builders a word or two, "same" when all is well."""

    version: str
    verdicts: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)  # By who built; "alone" is sbuild's time.

    @property
    def good(self) -> bool:
        """Nothing is different that would not be so anyway."""
        return all(verdict.startswith("same") for verdict in self.verdicts.values())


@dataclass(frozen=True)
class Comparison:
    """Builds packages by all builders."""

    client: StockClient
    chroot: Path  # As the daemon takes it,
    plain: Path  # and as sbuild does.
    folder: Path  # The account's own.

    def compare(self, candidate: Candidate, dsc: Path) -> Compared:
        """Build, and compare byte for byte; where that fails, see whether sbuild itself builds the same twice."""
        compared = Compared(dsc.stem.partition("_")[2])
        alone = self._alone("alone", candidate, dsc, compared)
        for builder in BUILDERS:
            ours = self._ours(builder, candidate, dsc, compared)
            if isinstance(ours, str):
                compared.verdicts[builder] = ours
            elif alone.keys() != ours.keys():
                names = " ".join(sorted(alone.keys() ^ ours.keys()))
                compared.verdicts[builder] = f"other packages: {names}"
            elif alone == ours:
                compared.verdicts[builder] = "same"
            else:
                again = self._alone("again", candidate, dsc, compared)
                compared.verdicts[builder] = self._judge(alone, again, ours)
        return compared

    def _alone(self, name: str, candidate: Candidate, dsc: Path, compared: Compared) -> Packages:
        """What sbuild builds; once for each name."""
        folder = self.folder / f"{candidate.package}-{name}"
        if not folder.exists():
            began = time.monotonic()
            sbuild_alone(dsc, self.plain, folder, candidate.options)
            compared.seconds[name] = time.monotonic() - began
        return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".deb", ".udeb")}

    def _ours(self, builder: str, candidate: Candidate, dsc: Path, compared: Compared) -> Packages | str:
        """What the daemon builds, or why it does not."""
        began = time.monotonic()
        options: dict[str, Any] = {"build_options": list(candidate.options)} if candidate.options else {}
        name = f"{candidate.package}-{builder}"
        status, log = self.client.build(name, dsc, self.chroot, package_builder=builder, **options)
        compared.seconds[builder] = time.monotonic() - began
        try:
            if status["build_status"] != "BuildStatus.OK":
                (self.folder / f"{name}.log").write_text(log)
                return f"{status['build_status']}: {status.get('reason', '')}"
            names = [name for name in status["filemap"] if name.endswith("deb")]
            return {name: self.client.fetch(status["filemap"][name]) for name in names}
        finally:
            self.client.proxy.clean()

    def _judge(self, alone: Packages, again: Packages, ours: Packages) -> str:
        """What to say of packages that are not the same to the byte."""
        if shutil.which("diffoscope") is None:
            return "different; install diffoscope-minimal to see whether that matters"
        changing, different = set[str](), set[str]()
        for name in alone:
            changing |= set(self._differences(name, alone[name], again[name]))
            different |= set(self._differences(name, alone[name], ours[name]))
        beyond = sorted(different - changing)
        if not beyond:
            return f"same but for what is another each time: {' '.join(sorted(different))}"
        return f"different: {' '.join(beyond)}"

    def _differences(self, name: str, one: bytes, other: bytes) -> Iterator[str]:
        """The members of a package that differ, as diffoscope names them."""
        if one == other:
            return
        paths = []
        for side, content in (("one", one), ("other", other)):
            path = self.folder / side / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            paths.append(path)
        found = subprocess.run(["diffoscope", "--json", "-", *paths], check=False, stdout=subprocess.PIPE)
        yield from _leaves(json.loads(found.stdout), name)


def _leaves(node: Mapping[str, Any], path: str) -> Iterator[str]:
    """What differs in itself below a node of diffoscope's answer."""
    below = node.get("details") or []
    if node.get("unified_diff") or not below:
        yield path
    for child in below:
        yield from _leaves(child, f"{path}:{child['source1'].strip()}".replace(" ", "_"))


def sbuild_alone(dsc: Path, chroot: Path, folder: Path, options: tuple[str, ...] = ()) -> None:
    """Build a source package with sbuild as Debian ships it, as the unprivileged account, into a folder.

    :param options: more words for DEB_BUILD_OPTIONS.
    """
    account = build_account()
    work = account.make_directory(folder)
    # Its own idea of the build path is random, and in the packages where these are not stripped.
    arguments = ["--build-path=/build/reproducible-path", "--no-run-lintian", "--no-source", "--arch-all"]
    command: list[str | Path] = [
        "sbuild",
        "--chroot-mode=unshare",
        "--chroot",
        chroot,
        "--dist",
        SUITE,
        *arguments,
        dsc,
    ]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "TMPDIR": str(work),
        "DEB_BUILD_OPTIONS": " ".join([f"parallel={len(os.sched_getaffinity(0))}", *options]),
    }
    with (work / "log").open("wb") as log:
        subprocess.run(account.command(command), cwd=work, env=environment, stdout=log, stderr=log, check=True)


def unwrapped(chroot: Path, target: Path) -> Path:
    """The chroot as sbuild wants it: without the folder at the top that is for build daemons."""
    tree = target.parent / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-C", tree, "--exclude=*/dev/*", "-xf", chroot], check=True)
    subprocess.run(["tar", "-C", tree / "chroot-autobuild", "--numeric-owner", "-cf", target, "."], check=True)
    subprocess.run(["rm", "-rf", tree], check=True)
    target.chmod(0o644)
    return target
