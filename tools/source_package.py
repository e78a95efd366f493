"""Source packages to build: Debian's, fetched through an apt configuration of our own, or this checkout's."""

import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from tools.machines_apt import Mirror, carried_over
from tools.places import CHECKOUT, Places

LISTS_GOOD_FOR_S = 12 * 3600.0


class NoSource(Exception):
    """The source package could not be had; the message says what apt or dpkg-source said."""

    def __init__(self, package: str, output: str) -> None:
        super().__init__(f"no source package {package!r}: {output.strip() or 'no reason given'}")
        self.package = package


@dataclass(frozen=True)
class PrivateApt:
    """An apt of our own for one suite: configuration, lists and cache. The machine's is neither read nor changed."""

    directory: Path
    mirror: Mirror
    suite: str
    kinds: tuple[str, ...] = ("deb-src",)  # Of lists that it has.

    def lists(self) -> Path:
        """The folder with the lists, as fresh as those of `fetch`.

        :raises NoSource: the mirror does not answer.
        """
        self._configure()
        if not self._lists_are_fresh():
            self._run("lists", "update", "--error-on=any")
            self._stamp.touch()
        return self.directory / "lists"

    @property
    def environment(self) -> dict[str, str]:
        """With which apt's programs use this configuration."""
        return {**os.environ, "APT_CONFIG": str(self.directory / "apt.conf"), "LC_ALL": "C.UTF-8"}

    def fetch(self, package: str, target: Path) -> Path:
        """The .dsc of a source package, with the files that it names beside it; signatures and digests checked by apt.

        What is in the target folder already is not fetched again.

        :param package: as ``apt-get source`` takes it: ``hello`` or ``hello=2.10-3``.
        :raises NoSource: there is none, or the mirror does not answer.
        """
        self._configure()
        if self._lists_are_fresh():
            try:
                return self._download(package, target)
            except NoSource:  # Perhaps it is newer than our lists, or a point release has moved it.
                pass
        self._run(package, "update", "--error-on=any")
        self._stamp.touch()
        return self._download(package, target)

    def fetch_binaries(self, *wanted: str) -> list[Path]:
        """The .deb files of packages with all that they depend on, as a system that has none of them would fetch them;
        there are no others in this directory's cache.

        :param wanted: as ``apt-get install`` takes them, patterns as well. `kinds` has to have "deb".
        :raises NoSource: there is none, or the mirror does not answer.
        """
        self.lists()
        what = " ".join(wanted)
        self._run(what, "autoclean")
        install = ["install", "--yes", "--download-only", "--no-install-recommends"]
        self._run(what, *install, "--", *wanted)
        return sorted((self.directory / "cache/archives").glob("*.deb"))

    def _download(self, package: str, target: Path) -> Path:
        listing = self._run(package, "source", "--download-only", "--print-uris", "--", package)
        dscs: list[str] = re.findall(r"^'[^']*' (\S+\.dsc) \d+", listing, re.MULTILINE)
        if len(dscs) != 1:
            raise NoSource(package, f"apt-get names no single .dsc for it:\n{listing}")
        target.mkdir(parents=True, exist_ok=True)
        self._run(package, "source", "--download-only", "--", package, folder=target)
        return target / dscs[0]

    @property
    def _stamp(self) -> Path:
        return self.directory / "updated"

    def _lists_are_fresh(self) -> bool:
        return self._stamp.exists() and time.time() - self._stamp.stat().st_mtime < LISTS_GOOD_FOR_S

    def _configure(self) -> None:
        for name in ("lists/partial", "cache/archives/partial", "apt.conf.d", "preferences.d"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        lines = [self.mirror.line(kind, self.suite) for kind in self.kinds]
        (self.directory / "sources.list").write_text("\n".join([*lines, ""]))
        (self.directory / "status").touch()
        (self.directory / "apt.conf").write_text("\n".join([*self._settings(), ""]))

    def _settings(self) -> list[str]:
        directory = self.directory
        return [
            f'Dir::State "{directory}";',
            f'Dir::State::lists "{directory}/lists";',
            f'Dir::State::status "{directory}/status";',
            f'Dir::Cache "{directory}/cache";',
            f'Dir::Etc "{directory}";',  # No apt.conf.d, preferences, trusted.gpg.d or auth.conf of the machine's.
            f'Dir::Etc::SourceList "{directory}/sources.list";',
            'Dir::Etc::SourceParts "/dev/null";',
            f'APT::Sandbox::User "{"root" if os.geteuid() == 0 else ""}";',  # _apt may not be able to come here.
            'Acquire::Languages "none";',
            *carried_over(),
        ]

    def _run(self, package: str, *arguments: str, folder: Path | None = None) -> str:
        result = subprocess.run(
            ["apt-get", "-q", *arguments],
            env=self.environment,
            cwd=folder or self.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise NoSource(package, result.stderr)
        return result.stdout


def fetch_source(package: str, suite: str, mirror: Mirror, places: Places) -> Path:
    """The .dsc of a source package of Debian's.

    :raises NoSource: it could not be fetched.
    """
    folder = re.sub(r"[^A-Za-z0-9.+~=-]", "_", package)
    return PrivateApt(places.apt / suite, mirror, suite).fetch(package, places.sources / suite / folder)


def checkout_source(places: Places) -> Path:
    """The .dsc of this checkout's own source package: what is committed, nothing else.

    :raises NoSource: this is no git checkout, or has no debian/ folder that dpkg-source takes.
    """
    target = places.sources / "checkout"
    scratch = places.make().scratch / f"checkout-{os.getpid()}"
    for left in (scratch, *places.scratch.glob("checkout-*")):
        shutil.rmtree(left, ignore_errors=True)
    tree = scratch / "debfarm"
    tree.mkdir(parents=True)
    try:
        with subprocess.Popen(_git("archive", "--format=tar", "HEAD"), stdout=subprocess.PIPE) as git:
            unpacked = subprocess.run(["tar", "-C", tree, "-xf", "-"], stdin=git.stdout, check=False).returncode
        if git.returncode or unpacked:
            raise NoSource(".", "git archive failed")
        _mark_snapshot(tree / "debian/changelog")
        packed = subprocess.run(
            ["dpkg-source", "--build", tree.name], cwd=scratch, capture_output=True, text=True, check=False
        )
        if packed.returncode:
            raise NoSource(".", packed.stderr)
        target.mkdir(parents=True, exist_ok=True)
        for file in scratch.glob("*_*"):
            file.replace(target / file.name)
        return max(target.glob("*.dsc"), key=lambda path: path.stat().st_mtime_ns)
    finally:
        shutil.rmtree(scratch)


def _git(*arguments: str) -> list[str]:
    # The checkout may belong to somebody else, such as whoever called sudo.
    return ["git", "-c", f"safe.directory={CHECKOUT}", "-C", str(CHECKOUT), *arguments]


def _mark_snapshot(changelog: Path) -> None:
    """Make the version name the commit: two commits of one version are two source packages, which may not share it."""
    what = _git("show", "--no-patch", "--date=format:%Y%m%d", "--format=+git%cd.%h", "HEAD")
    suffix = subprocess.run(what, capture_output=True, text=True, check=True).stdout.strip()
    first, rest = changelog.read_text().split("\n", 1)
    changelog.write_text(re.sub(r"\(([^)]*)\)", rf"(\1{suffix})", first, count=1) + "\n" + rest)
