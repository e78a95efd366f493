"""What one build costs beyond the run of dpkg-buildpackage: by a daemon, cold and warm, and by sbuild alone."""

import argparse
import os
import re
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.servers import daemon
from benchmarks.span import Watch, now
from benchmarks.table import show
from ftests.stock_client import StockClient
from ftests.tiny_source import tiny_source
from harness import BuilddTestSetup, FileServer, base_chroot
from tools.account import build_account
from tools.base_chroot import TOP
from tools.machines_apt import find_mirror
from tools.places import Places, default_root
from tools.source_package import fetch_source

SUITE = "bookworm"
COMPILE = "dpkg-buildpackage"
_LOOK_EVERY_S = 0.03
_HEADING = re.compile(r"\| (\S+(?: \S+)*) +\|\n")  # sbuild's, of a stage.
REFERENCE = """
From the call build() to the answer of clean(), or from sbuild's start to its end. "Build" has sbuild's start in it.
Reference, in ANOTHER run, hello: overhead 13.7 s (chroot 1.3, update and upgrade 3.0, start and source 0.8, build-
dependencies 6.0, checks and unpacking 0.6, after dpkg-buildpackage 1.7); sbuild alone, unshare mode: about 19.
"""


@dataclass
class Run:
    """One build, in seconds of span.now()."""

    name: str
    began: float
    ended: float = 0.0
    compile: tuple[float, float] = (0.0, 0.0)  # When dpkg-buildpackage began and ended.
    reached: list[tuple[float, str]] = field(default_factory=list)  # When each stage was first seen.

    def reach(self, stage: str) -> None:
        """This stage is what is going on now."""
        if stage and (not self.reached or self.reached[-1][1] != stage):
            self.reached.append((now(), stage))

    @property
    def overhead_s(self) -> float:
        """All but the run of dpkg-buildpackage."""
        return (self.ended - self.began) - (self.compile[1] - self.compile[0])

    def stages(self) -> list[tuple[str, float]]:
        """Each stage with its seconds; the one that compiles is in three parts."""
        compiling = [(self.compile[0], f"  {COMPILE}"), (self.compile[1], "  after it")]
        marks = sorted([(self.began, "begin"), *self.reached, *compiling])
        ends = [*(began for began, _ in marks[1:]), self.ended]
        return [(name, end - began) for (began, name), end in zip(marks, ends, strict=True)]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, and print the tables."""
    arguments = parse(argv)
    with daemon() as setup:
        measure(setup, arguments)


def measure(setup: BuilddTestSetup, arguments: argparse.Namespace) -> None:
    """Have a daemon build, which must not have built before."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="files-", dir=setup.places.tests)))
        folder.chmod(0o755)
        if arguments.package:
            dsc = fetch_source(arguments.package, SUITE, find_mirror(SUITE), setup.places)
        else:
            dsc = tiny_source(folder)
        chroot = base_chroot(SUITE)
        files = FileServer()
        stack.callback(files.close)
        client = StockClient(setup.url, files)
        client.send(chroot)
        client.proxy = _Clocked(client.proxy)
        runs = [_by_daemon(name, client, dsc, chroot, setup.process.process.pid) for name in arguments.builds]
        if arguments.sbuild:
            runs.append(_by_sbuild(dsc, _unwrapped(chroot, folder / "chroot.tar")))
    for run in runs:
        show(f"{run.name}: stages", ("", "s"), [(name, f"{seconds:.2f}") for name, seconds in run.stages()])
    rows = [
        (
            run.name,
            f"{run.ended - run.began:.2f}",
            f"{run.compile[1] - run.compile[0]:.2f}",
            f"{run.overhead_s:.2f}",
            f"{run.overhead_s / runs[-1].overhead_s:.2f}",
        )
        for run in runs
    ]
    show("in all", ("", "s", COMPILE, "overhead", f"by {runs[-1].name}'s"), rows)
    print(REFERENCE)


def _by_daemon(name: str, client: StockClient, dsc: Path, chroot: Path, pid: int) -> Run:
    """One build, from the call build() to IDLE after clean(). The daemon has the chroot already.

    :param pid: the daemon's.
    """
    watch = Watch(pid, COMPILE)
    client.begin(f"overhead-{name}", dsc, chroot)
    run = Run(f"debfarm-buildd, {name}", client.proxy.built)
    status = client.proxy.status()
    while status["builder_status"] == "BuilderStatus.BUILDING":
        run.reach(status["stage"])
        time.sleep(_LOOK_EVERY_S)
        status = client.proxy.status()
    run.reach("clean")
    assert status["build_status"] == "BuildStatus.OK", status
    assert client.proxy.clean() == "BuilderStatus.IDLE"
    run.ended = now()
    run.compile = watch.span()
    return run


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


def _by_sbuild(dsc: Path, chroot: Path) -> Run:
    """One build by sbuild as Debian ships it, as the account that builds."""
    account, places = build_account(), Places(default_root())
    work = account.make_directory(places.tests / f"sbuild-{os.getpid()}")
    options = ["--chroot-mode=unshare", f"--chroot={chroot}", f"--dist={SUITE}", "--arch-all", "--no-run-lintian"]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "TMPDIR": str(work),
        "DEB_BUILD_OPTIONS": f"parallel={len(os.sched_getaffinity(0))}",
    }
    run = Run("sbuild alone", now())
    try:
        command = account.command(["sbuild", *options, "--nolog", dsc])
        with subprocess.Popen(
            command, cwd=work, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            watch = Watch(process.pid, COMPILE)
            assert process.stdout
            for line in process.stdout:
                if heading := _HEADING.fullmatch(line):
                    run.reach(heading[1])
        run.ended = now()
        assert process.returncode == 0, f"sbuild ended with status {process.returncode}"
        run.compile = watch.span()
    finally:
        account.remove_tree(work)
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


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead", description=__doc__)
    add = parser.add_argument
    add("--package", default="hello", help="source package of Debian's to build (default: %(default)s)")
    add("--no-sbuild", action="store_false", dest="sbuild", help="leave out sbuild alone")
    add("--quick", action="store_true", help="just see that it works: one build of a tiny package")
    arguments = parser.parse_args(argv)
    arguments.builds = ("cold", "warm")
    if arguments.quick:
        arguments.package, arguments.sbuild, arguments.builds = "", False, ("cold",)
    return arguments


if __name__ == "__main__":
    main()
