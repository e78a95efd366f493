"""An archive that is published again and again, as fast as can be, under clients that read it without a pause.

Packages enter suites, are replaced, promoted and removed, one a time, by the functions that the commands call; each
change is published by itself. A real master serves the archive over HTTP (and publishes as well, what it comes to
first). apt updates from it in a loop; so does apt that fetches nothing by its digest, which may miss a file, as with
any archive, and is only counted; another reader compares each file that InRelease names.

    python -m ftests.publishing_loop --publications 10000
"""

import argparse
import math
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from buildmaster import copying, distributions, publications
from buildmaster.farm import Farm
from buildmaster.publications import State, Suite
from buildmaster.publishing.publication import Press
from buildmaster.secrets import Secrets
from buildmaster.suites import PublishedMeanwhile
from buildmaster.tests.factories import write_deb
from buildmaster.tests.ports import free_port
from buildmaster.tests.uploading import Upload
from buildmaster.tests.waiting import wait_until
from ftests.looping_readers import Seen, answers, by_apt, by_digest, reading
from harness import own_architecture
from tools.account import this_account
from tools.master import Master

SUITES = ("bookworm-proposed", "bookworm-updates", "bookworm")
SOURCES = 6  # That come and go, at least; and one more
CHANGES_OF_ONE = 250  # for so many changes: what was published of a source is remembered, and looked at with the next.
VERSIONS = ("1.0", "1.1", "2.0~rc1", "2.0")
REST = 60  # Packages that stay.
START_S = 60.0
TOLD_EVERY_S = 60.0
TRIES = 100  # Of finding a change that there can be.
GERMAN = "Description-de: sagt {version}\n jedem, der da ist"


class PublishedFarm:
    """A farm with a master that builds nothing, and two archives: `stock` has all that there may be in `loop`."""

    def __init__(self, sources: int) -> None:
        self.sources = sources
        self.folder = Path(tempfile.mkdtemp(prefix="publishing-"))
        self.folder.chmod(0o755)
        settings = {("archives", "port"): str(free_port()), ("dependencies", "look"): "no"}
        self.url = f"http://127.0.0.1:{settings['archives', 'port']}/debian/loop"
        self.master = Master(this_account(), self.folder / "farm", self.folder / "buildmaster.log", settings)

    def __enter__(self) -> "PublishedFarm":
        chroot = self.folder / "chroot.tar"
        chroot.write_bytes(b"Nothing is built.\n")
        self.master.run("init", "--distribution", "debian")
        self.master.run("add-chroot", "--no-check", "debian/bookworm", own_architecture(), chroot)
        self.master.run("archive", "create", "stock", "--keep-versions", str(len(VERSIONS)))
        self.master.run("archive", "create", "loop")
        self._fill()
        self.master.start()
        wait_until(lambda: answers(self.url), START_S, self.master.log.read_text)
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, at: TracebackType | None) -> None:
        self.master.stop()
        shutil.rmtree(self.folder)

    def _fill(self) -> None:
        for version in VERSIONS:
            wanted = [each for number in range(self.sources) for each in self._packages(f"hello{number}", version)]
            self.master.run("archive", "import", "stock", "--suite", SUITES[-1], *wanted)
        self.master.run("archive", "import", "stock", "--suite", SUITES[-1], *self._packages("rest", "1.0", REST))

    def _packages(self, name: str, version: str, count: int = 1) -> Iterator[Path]:
        """The files of a source package, and of so many packages of it for this architecture, and one for all."""
        changes = Upload(name=name, version=version, architectures="any all", signer="").write(self.folder / "sources")
        yield from changes.parent.glob(f"{name}_{version}.dsc")
        wanted = [(f"{name}-{number}", own_architecture()) for number in range(count)] + [(f"{name}-data", "all")]
        fields = "\n".join([f"Source: {name}", GERMAN.format(version=version)])
        for own, architecture in wanted:
            files = {f"usr/share/{own}/{version}": version.encode()}
            yield write_deb(self.folder / "debs", own, version, architecture, fields=fields, files=files)


class Changes:
    """Changes of the archive `loop`, one after the other, each of them published."""

    def __init__(self, farm: Farm, sources: int, seed: int) -> None:
        self._farm = farm
        self._sources = sources
        self._random = random.Random(seed)
        self._press = Press(farm, farm.directory / "archives", Secrets(farm.directory / "secrets"), time.time)
        with farm.reading() as connection:
            self._stock, self._loop = (
                distributions.find_archive(connection, "debian", each) for each in ("stock", "loop")
            )
            self._suites = [copying.find_suite(connection, self._loop, each) for each in SUITES]
        self.made: Counter[str] = Counter()
        for where in self._suites:
            self._copy("rest", "1.0", where)
            self._press.publish(where, wait=True)

    def generations(self) -> int:
        """How many publications there were."""
        with self._farm.reading() as connection:
            return sum(each.generation for each in publications.suites_of(connection, self._loop))

    def change(self) -> None:
        """Make a change, and publish it."""
        for _ in range(TRIES):
            act = self._random.choice((self._enter, self._enter, self._remove, self._promote))
            changed = act(f"hello{self._random.randrange(self._sources)}", self._random.choice(self._suites))
            if changed:
                self.made[act.__name__.strip("_")] += 1
                for where in changed:
                    self._publish(where)
                return
        raise AssertionError("there is nothing to change")

    def _publish(self, where: Suite) -> None:
        try:
            self._press.publish(where, wait=True)
        except PublishedMeanwhile:  # By the master.
            self._publish(where)

    def _enter(self, name: str, where: Suite) -> list[Suite]:
        """Into a suite, perhaps in place of an older version."""
        try:
            new = self._copy(name, self._random.choice(VERSIONS), where)
        except copying.CannotCopy:
            return []
        return [where] if new else []

    def _copy(self, name: str, version: str, where: Suite) -> int:
        """Returns how many packages are new there."""
        with self._farm.reading() as connection:
            what = copying.find(connection, self._stock, name, version=version)
        return self._farm.write(copying.copy, what, where, time.time()).packages

    def _remove(self, name: str, where: Suite) -> list[Suite]:
        if not (what := self._there(name, where)):
            return []
        self._farm.write(copying.delete, what, "a test", time.time())
        return [where]

    def _promote(self, name: str, where: Suite) -> list[Suite]:
        """Into the next suite."""
        if where is self._suites[-1] or not (what := self._there(name, where)):
            return []
        target = self._suites[self._suites.index(where) + 1]
        try:
            self._farm.write(copying.promote, what, target, time.time())
        except copying.CannotCopy:
            return []
        return [target, where]

    def _there(self, name: str, where: Suite) -> list[publications.Publication]:
        with self._farm.reading() as connection:
            every = publications.named(connection, self._loop, name)
        return [each for each in every if each.suite == where and each.state is State.PUBLISHED]


def loop(
    count: int,
    seed: int = 0,
    at_most_s: float = math.inf,
    *,
    plainly: bool = True,
    told: Callable[[int], None] = lambda done: None,
) -> tuple[int, dict[str, Seen], Changes]:
    """Publish so many times, under readers. How many times it was, and what these saw.

    :param plainly: apt that fetches nothing by its digest is among them.
    :param told: is called now and then with the publications so far.
    :raises AssertionError: one saw what is not what InRelease says, or complained.
    """
    sources = max(SOURCES, math.ceil(count / CHANGES_OF_ONE))
    with PublishedFarm(sources) as served:
        farm = Farm.open(served.master.directory)
        try:
            changes = Changes(farm, sources, seed)
            until = time.monotonic() + at_most_s
            done, first, tell_at = 0, changes.generations(), 0.0
            readers = {
                "apt": by_apt(served.url, SUITES, served.folder / "apt", by_hash=True),
                "all by digest": by_digest(served.url, SUITES),
            }
            if plainly:
                readers["apt, not by hash"] = by_apt(served.url, SUITES, served.folder / "apt-plain", by_hash=False)
            with reading(readers) as (seen, wrong):
                while done < count and time.monotonic() < until and not wrong:
                    changes.change()
                    done = changes.generations() - first
                    if time.monotonic() > tell_at:
                        told(done)
                        tell_at = time.monotonic() + TOLD_EVERY_S
            if wrong:
                raise wrong[0]
        finally:
            farm.close()
    return done, seen, changes


def main(argv: Sequence[str] | None = None) -> None:
    """Publish, and tell what was seen."""
    parser = argparse.ArgumentParser(prog="python -m ftests.publishing_loop", description=__doc__)
    parser.add_argument("--publications", type=int, default=10_000, help="[%(default)s]")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the changes")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which it ends, however far it is")
    parser.add_argument("--by-hash-alone", action="store_true", help="no apt that fetches nothing by its digest")
    arguments = parser.parse_args(argv)
    began = time.monotonic()
    print(f"seed {arguments.seed}")
    count, seen, changes = loop(
        arguments.publications,
        arguments.seed,
        arguments.minutes * 60,
        plainly=not arguments.by_hash_alone,
        told=lambda done: print(f"{done} publications after {time.monotonic() - began:.0f} s", flush=True),
    )
    took = time.monotonic() - began
    print(f"{count} publications of {len(SUITES)} suites in {took:.0f} s: {dict(changes.made)}")
    for name, each in seen.items():
        print(
            f"{name}: {each.updates} updates, {len(each.generations)} generations seen, complaints: {dict(each.faults)}"
        )


if __name__ == "__main__":
    main()
