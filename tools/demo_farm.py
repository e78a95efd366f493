"""The demo's farm: a master and one builder on this machine, kept from one demo to the next."""

import contextlib
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildd.control import ControlError, parse_dsc
from tools.account import this_account
from tools.children import Register
from tools.daemon import Daemon
from tools.machines_apt import Mirror
from tools.master import INTERRUPTED, CommandFailed, Master
from tools.places import Places
from tools.results import Results

DISTRIBUTION = "debian"
BUILT = "built"
LOOK_EVERY_S = 0.3


class FarmDied(Exception):
    """The master or the daemon ended while a build was waited for."""


class BuildFailed(Exception):
    """A package was not built."""


@dataclass(frozen=True)
class Wish:
    """What is to be built, and for what."""

    packages: tuple[str, ...]
    suite: str
    architecture: str
    mirror: Mirror


@dataclass
class DemoFarm:
    """Both, and what is known of them."""

    places: Places
    register: Register
    master: Master
    daemon: Daemon

    def start(self, wish: Wish, chroot: Path) -> None:
        """Start both, with the suite's chroot known and the builder added; what an earlier demo left undone is
        cancelled."""
        self.register.add(self.daemon.start())
        self._make(wish, chroot)
        self._use_builder()
        self._cancel_what_was_left()
        self.register.add(self.master.start())

    def stop(self) -> None:
        """Stop both: the daemon aborts what it builds."""
        self.master.stop()
        self.daemon.stop()
        self.register.forget_all()

    def build(self, dsc: Path, suite: str) -> dict[str, Any]:
        """Submit a source package and show its build to its end, or until it is given back.

        :returns: the build, as `buildmaster builds --json` has it.
        :raises BuildFailed: it could not even be submitted; the reason has been printed.
        :raises FarmDied: the master or the daemon ended.
        """
        try:
            source = parse_dsc(dsc).source
        except ControlError as error:
            raise BuildFailed(str(error)) from error
        before = self._newest(source)
        arguments: list[str | Path] = ["submit", "--rebuild", "--wait", "--series", f"{DISTRIBUTION}/{suite}", dsc]
        argv = this_account().command(self.master.command("--quiet", *arguments))
        with subprocess.Popen(argv, stdin=subprocess.DEVNULL) as process:
            while process.poll() is None:
                try:
                    given_back = self._was_given_back(source)
                except FarmDied:
                    process.terminate()
                    raise
                if given_back:
                    process.terminate()
                    break
                time.sleep(LOOK_EVERY_S)
        if process.returncode == INTERRUPTED:
            raise KeyboardInterrupt
        newest = self._newest(source)
        if newest is None or (before and before["id"] == newest["id"]):
            raise BuildFailed(f"{dsc.name} was not accepted")
        return newest

    def _was_given_back(self, source: str) -> bool:
        """Whether the builder could not build it, for reasons of its own.

        The master would try again, ever later: another builder may be better. Here there is none.

        :raises FarmDied: the master or the daemon ended.
        """
        for child in (self.master.child, self.daemon.child):
            if child is not None and not child.is_running:
                raise FarmDied(f"{child.name} ended; the end of its log, {child.log}:\n{child.log_tail()}")
        build = self._newest(source)
        return build is not None and bool(build["started"]) and build["state"] == "needs-build"

    def _newest(self, source: str) -> dict[str, Any] | None:
        found: list[dict[str, Any]] = self.master.ask("builds", "--source", source, "--limit", "1")["builds"]
        return found[0] if found else None

    def fetch(self, build: dict[str, Any], target: Path) -> Results:
        """Copy what a build made, and its log, to a folder that holds nothing else afterwards."""
        shutil.rmtree(target, ignore_errors=True)
        if build["state"] != BUILT and not build["log"]:
            return Results((), None)
        fetched = self.master.ask("fetch", str(build["id"]), "--to", target)
        files = tuple(Path(file["path"]) for file in fetched["files"])
        return Results(files, Path(fetched["log"]) if fetched["log"] else None)

    def _make(self, wish: Wish, chroot: Path) -> None:
        """Make the farm and put the chroot into its store; once, unless the chroot is another."""
        mark = self.places.farm / f"made-{wish.suite}-{wish.architecture}"
        facts = f"{chroot} {chroot.stat().st_mtime_ns}\n"
        if mark.exists() and mark.read_text() == facts:
            return
        self.master.run("init", "--distribution", DISTRIBUTION)
        self.master.run("add-chroot", "--no-check", f"{DISTRIBUTION}/{wish.suite}", wish.architecture, chroot)
        mark.write_text(facts)

    def _use_builder(self) -> None:
        """Have this demo's builder, and no other, work for the farm: an earlier one may have had another port."""
        self.master.run("add-builder", self.daemon.url, "--name", self._builder_name)
        for builder in self.master.ask("builders")["builders"]:
            disabled = builder["state"] == "disabled"
            if builder["name"] == self._builder_name and disabled:
                self.master.run("enable-builder", builder["name"])
            elif builder["name"] != self._builder_name and not disabled:
                self.master.run("disable-builder", builder["name"], "--reason", "its port was taken")
        self.places.builder_port.write_text(str(self.daemon.port))

    def _cancel_what_was_left(self) -> None:
        states = [f"--state={state}" for state in ("needs-build", "building")]
        left = self.master.ask("builds", *states, "--limit", "1000")["builds"]
        if left:
            # What cannot be cancelled is about to end.
            with contextlib.suppress(CommandFailed):
                self.master.run("cancel", *(str(build["id"]) for build in left))

    @property
    def _builder_name(self) -> str:
        return f"local-{self.daemon.port}"
