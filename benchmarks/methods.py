"""The ways to build a package that are compared: by our daemon, and by plain tools."""

import os
import re
import shutil
import subprocess
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks.runs import COMPILE, Run
from benchmarks.span import Watch, now
from ftests.stock_client import StockClient
from harness import BuilddTestSetup, FileServer
from tools.account import build_account
from tools.base_chroot import TOP

_LOOK_EVERY_S = 0.02
_HEADING = re.compile(r"\| (\S+(?: \S+)*) +\|\n")  # sbuild's, of a stage.
_AS_ROOT = Path(__file__).with_name("as_root.sh")


class Failed(Exception):
    """A build that was to be timed failed; the message has the end of its log."""


@dataclass(frozen=True)
class Place:
    """Where all of them build, and from what."""

    folder: Path  # Every account may enter it.
    chroot: Path
    suite: str
    files: FileServer


class Method(Protocol):
    """One of the ways."""

    def prepare(self, dsc: Path) -> None:
        """Do what is not needed for each build, and is not timed."""
        ...

    def build(self, dsc: Path) -> Run:
        """Build it."""
        ...

    def close(self) -> None:
        """End what runs, and remove what is left."""
        ...


# --- ours


class Ours:
    """A daemon of ours: one for all builds, which have what earlier builds have left, or a new one for each."""

    def __init__(self, place: Place, builder: str, *, fresh: bool) -> None:
        """:param builder: `sbuild` or `direct`, of the argument package_builder."""
        self._place = place
        self._builder = builder
        self._fresh = fresh
        self._directory = place.folder / f"buildd-{builder}-{fresh:d}"
        self._setup: BuilddTestSetup | None = None
        self._count = 0

    def prepare(self, dsc: Path) -> None:
        """See Method.prepare: a warm daemon has built it before."""
        if not self._fresh:
            self.build(dsc)

    def build(self, dsc: Path) -> Run:
        """See Method.build: from the call build() to IDLE after clean(). The daemon has the files already."""
        if self._fresh:
            self.close()
        if self._setup is None:
            self._setup = BuilddTestSetup(directory=self._directory)
            self._setup.setUp()
        return self._build(self._setup, dsc)

    def _build(self, setup: BuilddTestSetup, dsc: Path) -> Run:
        client = StockClient(setup.url, self._place.files)
        client.proxy = clocked = _Clocked(client.proxy)
        client.send(self._place.chroot)
        os.sync()
        pid = setup.process.process.pid
        watch = Watch(pid, COMPILE)
        self._count += 1
        client.begin(f"overhead-{self._count}", dsc, self._place.chroot, package_builder=self._builder)
        run = Run(clocked.built)
        while (status := client.proxy.status())["builder_status"] == "BuilderStatus.BUILDING":
            run.reach(status["stage"])
            time.sleep(_LOOK_EVERY_S)
        run.reach("clean")
        log = client.fetch("buildlog").decode(errors="replace")
        client.proxy.clean()
        run.ended = now()
        if status["build_status"] != "BuildStatus.OK":
            raise Failed(f"{status}\n{log[-3000:]}")
        run.compile = watch.span()
        if ("sbuild" in watch.above) != (self._builder == "sbuild"):
            raise Failed(f"this was not built by {self._builder}")
        return run

    def close(self) -> None:
        """See Method.close."""
        if self._setup is not None:
            self._setup.tearDown()
            self._setup.account.remove_tree(self._directory)
            self._setup = None


class _Clocked:
    """A client's proxy that notes when it is told to build."""

    def __init__(self, proxy: Any) -> None:
        self._proxy = proxy
        self.built = 0.0

    def build(self, *arguments: object) -> object:
        self.built = now()
        return self._proxy.build(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._proxy, name)


# --- others


@dataclass
class SbuildUnshare:
    """sbuild as Debian ships it, in its unshare mode, as the account that builds."""

    place: Place
    _tarball: Path | None = field(default=None, init=False)

    def prepare(self, dsc: Path) -> None:
        """See Method.prepare: it wants the chroot without the folder at its top."""
        if self._tarball is None:
            self._tarball = _unwrapped(self.place.chroot, self.place.folder / "chroot.tar")

    def build(self, dsc: Path) -> Run:
        """See Method.build."""
        account = build_account()
        work = account.make_directory(self.place.folder / "unshare")
        options = ["--chroot-mode=unshare", f"--chroot={self._tarball}", f"--dist={self.place.suite}", "--arch-all"]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(work),
            "TMPDIR": str(work),
            "DEB_BUILD_OPTIONS": f"parallel={len(os.sched_getaffinity(0))}",
        }
        command = account.command(["sbuild", *options, "--no-run-lintian", "--nolog", dsc])
        try:
            return _timed(command, work, environment)
        finally:
            account.remove_tree(work)

    def close(self) -> None:
        """See Method.close."""
        if self._tarball is not None:
            self._tarball.unlink()


@dataclass
class AsRoot:
    """One of the ways of as_root.sh, which only root can go."""

    place: Place
    how: str
    prepared: str = ""  # The way to prepare for it.
    a_package: bool = False  # Prepared once for each package, and not for all of them.
    _there: set[Path] = field(default_factory=set, init=False)

    def prepare(self, dsc: Path) -> None:
        """See Method.prepare."""
        if self.prepared and (work := self._work(dsc)) not in self._there:
            self._there.add(work)
            _timed(self._command(self.prepared, work, dsc), self.place.folder, dict(os.environ), compiles=False)

    def build(self, dsc: Path) -> Run:
        """See Method.build."""
        work = self._work(dsc)
        self._there.add(work)
        return _timed(self._command(self.how, work, dsc), self.place.folder, dict(os.environ))

    def close(self) -> None:
        """See Method.close."""
        for work in self._there:
            shutil.rmtree(work)

    def _work(self, dsc: Path) -> Path:
        return self.place.folder / (f"{self.how}-{dsc.stem}" if self.a_package else self.how)

    def _command(self, how: str, work: Path, dsc: Path) -> list[str]:
        # With the mount namespace, its mounts are gone; with the pid namespace, its processes are.
        namespace = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
        return [*namespace, "sh", str(_AS_ROOT), how, *map(str, (work, self.place.chroot, self.place.suite, dsc))]


def _timed(command: Sequence[str], cwd: Path, environment: dict[str, str], *, compiles: bool = True) -> Run:
    """Run a command that prints headings as sbuild does.

    :param compiles: dpkg-buildpackage runs below it.
    """
    os.sync()
    run, tail = Run(now()), [""]
    with subprocess.Popen(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        watch = Watch(process.pid, COMPILE)
        assert process.stdout
        for raw in process.stdout:
            line = raw.decode(errors="replace")
            tail = [*tail[-40:], line]
            if heading := _HEADING.fullmatch(line):
                run.reach(heading[1])
    run.ended = now()
    if process.returncode:
        raise Failed(f"{' '.join(command)} ended with status {process.returncode}\n{''.join(tail)}")
    if compiles:
        run.compile = watch.span()
    return run


def _unwrapped(chroot: Path, target: Path) -> Path:
    """The chroot as sbuild wants it: without the folder at its top."""
    with tarfile.open(chroot) as old, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as new:
        for entry in old:
            content = old.extractfile(entry) if entry.isreg() else None
            entry.name = entry.name.removeprefix(TOP).strip("/") or "."
            if entry.islnk():
                entry.linkname = entry.linkname.removeprefix(f"{TOP}/")
            new.addfile(entry, content)
    target.chmod(0o644)
    return target


def methods(place: Place) -> dict[str, Method]:
    """All of them by name, the ones that need root only where this is root."""
    ours: dict[str, Method] = {
        "cold": Ours(place, "sbuild", fresh=True),
        "cold-direct": Ours(place, "direct", fresh=True),
        "sbuild": Ours(place, "sbuild", fresh=False),
        "direct": Ours(place, "direct", fresh=False),
    }
    others: dict[str, Method] = {"unshare": SbuildUnshare(place)}
    if os.geteuid() == 0:
        others = {
            "reference": AsRoot(place, "reference"),
            **others,
            "schroot": AsRoot(place, "schroot", "prepare-schroot"),
            "bare": AsRoot(place, "bare", "prepare-bare", a_package=True),
        }
    return {**others, **ours}
