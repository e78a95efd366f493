"""What `make demo` does: builds source packages on a farm of one machine, before your eyes."""

import argparse
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from tools.account import Account, NoSubordinateIds, build_account, this_account
from tools.base_chroot import BaseChroot, ChrootFailed, ensure_chroot
from tools.children import Register
from tools.daemon import Daemon, NotAnswering
from tools.demo_farm import BUILT, BuildFailed, DemoFarm, FarmDied, Wish
from tools.machines_apt import find_mirror
from tools.master import INTERRUPTED, CommandFailed, Master
from tools.places import Busy, Places, default_root, lock
from tools.results import BadResults, check_results
from tools.source_package import NoSource, checkout_source, fetch_source


def say(text: str) -> None:
    """Tell where the demo is."""
    print(f"debfarm: {text}", flush=True)


def run_demo(packages: Sequence[str], suite: str) -> None:
    """Build the packages, one after the other.

    :raises BuildFailed: one of them was not built; the others were tried nevertheless.
    """
    places = Places(default_root()).make()
    with lock(places.lock):
        account = build_account()
        register = Register(places.register)
        for name in register.end_leftovers():
            say(f"ended {name}, left running by a demo that was killed")
        architecture = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
        wish = Wish(tuple(packages), suite, architecture.stdout.strip(), find_mirror(suite))
        chroot = _chroot(wish, places, account)
        sources, failures = _sources(wish, places)
        if sources:
            with _running(wish, chroot, places, account, register) as farm:
                failures += [failure for dsc in sources if (failure := _build(farm, dsc, wish))]
        if failures:
            raise BuildFailed("\n".join(failures))


def _chroot(wish: Wish, places: Places, account: Account) -> Path:
    base = BaseChroot(wish.suite, wish.architecture, wish.mirror)
    if not base.path(places).exists():
        say(f"making a base chroot of {wish.suite} from {wish.mirror.url} (half a minute; once)")
    return ensure_chroot(base, places, account)


def _sources(wish: Wish, places: Places) -> tuple[list[Path], list[str]]:
    """The .dsc of each package, and a sentence for each that has none."""
    sources, failures = [], []
    for package in wish.packages:
        try:
            sources.append(_source(package, wish, places))
        except NoSource as error:
            failures.append(str(error))
    return sources, failures


def _source(package: str, wish: Wish, places: Places) -> Path:
    """The .dsc of a package, given by its name, as a .dsc of one's own, or as . for this checkout's."""
    if package.endswith(".dsc"):
        dsc = Path(package).absolute()
        if not dsc.is_file():
            raise NoSource(package, "there is no such file")
    elif package == ".":
        dsc = checkout_source(places)
    else:
        dsc = fetch_source(package, wish.suite, wish.mirror, places)
    say(f"source package: {dsc}")
    return dsc


@contextmanager
def _running(wish: Wish, chroot: Path, places: Places, account: Account, register: Register) -> Iterator[DemoFarm]:
    remembered = places.builder_port.read_text().strip() if places.builder_port.exists() else ""
    port = int(remembered) if remembered.isdigit() else 0
    daemon = Daemon(account, places, places.builder, places.logs / "debfarm-buildd.log", port if _free(port) else 0)
    master = Master(this_account(), places.farm, places.logs / "buildmaster.log")
    farm = DemoFarm(places, register, master, daemon)
    try:
        farm.start(wish, chroot)
        say(f"farm: builder at {daemon.url} as user {account.name}; master with its store in {places.farm}")
        yield farm
    finally:
        # A second Ctrl+C must not stop the stopping, which has an end of its own.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        farm.stop()
        signal.signal(signal.SIGINT, before)


def _build(farm: DemoFarm, dsc: Path, wish: Wish) -> str:
    """Build one package and tell where its results are; return why it was not built, "" when it was.

    :raises FarmDied: the master or the daemon ended: no other package can be built, either.
    """
    try:
        return _build_and_check(farm, dsc, wish)
    except (BadResults, BuildFailed, CommandFailed) as error:
        return str(error)


def _build_and_check(farm: DemoFarm, dsc: Path, wish: Wish) -> str:
    began = time.monotonic()
    name = dsc.stem.replace("_", " ")
    build = farm.build(dsc, wish.suite)
    results = farm.fetch(build, farm.places.results / f"{dsc.stem}_{wish.suite}")
    for path in results.shown:
        print(f"    {path}", flush=True)
    if build["state"] != BUILT:
        return f"{name} was not built: {build['state']}: {build['reason']}; its log: {results.log or 'there is none'}"
    checked = check_results(results)
    compiled = results.compile_s()
    of_which = "" if compiled is None else f", of which {compiled} s compiling"
    say(f"{name} built in {time.monotonic() - began:.0f} s{of_which}; the digests of all {checked} files are right")
    return ""


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__)
    parser.add_argument("--suite", default="bookworm")
    parser.add_argument(
        "packages", nargs="+", metavar="PACKAGE", help="a source package of Debian's; a .dsc file; . for this one"
    )
    arguments = parser.parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    began = time.monotonic()
    try:
        run_demo(arguments.packages, arguments.suite)
    except KeyboardInterrupt:
        say("stopped")
        return INTERRUPTED
    except FAILURES as error:
        say(str(error))
        return 1
    say(f"all of it took {time.monotonic() - began:.0f} s")
    return 0


FAILURES = (
    BadResults,
    BuildFailed,
    Busy,
    ChrootFailed,
    CommandFailed,
    FarmDied,
    NoSource,
    NoSubordinateIds,
    NotAnswering,
    OSError,
    subprocess.CalledProcessError,
)

if __name__ == "__main__":
    sys.exit(main())
