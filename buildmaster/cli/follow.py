"""Following builds to their end: a live view on a terminal, a line per change elsewhere."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from buildmaster import listings, waiting
from buildmaster.cli.growing import tail
from buildmaster.cli.output import STATE_STYLES, Output
from buildmaster.cli.text import HarmlessDecoder, elapsed, one_line
from buildmaster.farm import Farm
from buildmaster.lifecycle import ACTIVE, BuildState
from buildmaster.listings import Build

if TYPE_CHECKING:
    from rich.console import RenderableType

LOOK_EVERY_S = 0.5
TAIL_BYTES = 8192
TAIL_LINES = 12
_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Sight:
    """A build at one moment."""

    build: Build
    doing: str  # The stage, or what keeps it.
    for_s: float  # How long it is building, or waiting.


class View(Protocol):
    """Shows builds as they go on."""

    def __enter__(self) -> "View":
        """Begin to show."""

    def __exit__(self, *_: object) -> None:
        """Leave the terminal as it was."""

    def show(self, sights: Sequence[Sight], log: bytes) -> None:
        """Show this moment.

        :param log: the end of the log of the build that runs, b"" when none does.
        """


def follow(
    farm: Farm,
    build_ids: Sequence[int],
    view: View,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
    *,
    looks: bool,
) -> list[Build]:
    """Show builds until each has ended, and return them as they are then, in the order given.

    A build that waits for a chroot or for build-dependencies has ended, in this sense: nobody knows for how long.

    :param looks: build-dependencies are looked at before builds are given to builders.
    """
    with view:
        while True:
            now = clock()
            with farm.reading() as connection:
                found = {each.id: each for each in listings.builds(connection, ids=build_ids)}
                builds = [found[build_id] for build_id in build_ids]
                whys = {
                    each.id: waiting.why_not_running(connection, each.id, now, looks=looks)
                    for each in builds
                    if each.state == BuildState.NEEDS_BUILD
                }
            running = next((each for each in builds if each.state in ACTIVE), None)
            log = tail(farm.log_path(running.id), TAIL_BYTES) if running else b""
            view.show([_sight(each, whys.get(each.id, ""), now) for each in builds], log)
            if all(each.has_ended for each in builds):
                return builds
            sleep(LOOK_EVERY_S)


def view_for(output: Output) -> View:
    """The view that suits where stdout goes; with --json, none."""
    if output.as_json:
        return Silence()
    return Screen() if output.on_terminal else Lines(output.say)


def _sight(build: Build, why: str, now: float) -> Sight:
    if build.state in ACTIVE:
        return Sight(build, build.stage, now - (build.started_at or now))
    if build.has_ended:
        began = build.started_at or build.created_at
        return Sight(build, build.why, (build.finished_at or now) - began)
    return Sight(build, why, now - (build.queued_at or now))


class Silence:
    """Shows nothing."""

    def __enter__(self) -> "Silence":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was begun."""

    def show(self, sights: Sequence[Sight], log: bytes) -> None:
        """Show nothing."""


class Lines:
    """A line for each change of a build's state or stage: for pipes, and the logs of other systems."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last: dict[int, tuple[str, ...]] = {}

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *_: object) -> None:
        """Lines stay."""

    def show(self, sights: Sequence[Sight], log: bytes) -> None:
        """Say what changed."""
        for sight in sights:
            build = sight.build
            # What keeps a waiting build may count its seconds.
            change = (build.state, build.builder or "", _NUMBER.sub("", sight.doing))
            if self._last.get(build.id) == change:
                continue
            self._last[build.id] = change
            place = f" on {build.builder}" if build.state in ACTIVE else ""
            doing = f": {sight.doing}" if sight.doing else ""
            span = f" ({elapsed(sight.for_s)})" if sight.for_s >= 1 else ""
            self._say(one_line(f"{time.strftime('%H:%M:%S')} build {build.id} {build.state}{place}{doing}{span}"))


class Screen:
    """A table of the builds, and below it the end of the log of the one that runs."""

    def __enter__(self) -> "Screen":
        from rich.console import Console  # noqa: PLC0415
        from rich.live import Live  # noqa: PLC0415

        self._console = Console(highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Wipe it off."""
        self._live.__exit__(None, None, None)

    def show(self, sights: Sequence[Sight], log: bytes) -> None:
        """Draw it anew."""
        self._live.update(self._drawn(sights, log), refresh=True)

    def _drawn(self, sights: Sequence[Sight], log: bytes) -> "RenderableType":
        from rich.console import Group  # noqa: PLC0415
        from rich.panel import Panel  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = Table.grid(padding=(0, 2))
        room = self._console.height
        shown = sights[: max(1, room - 6)]
        for sight in shown:
            build = sight.build
            cells = [str(build.id), f"{build.source} {build.version}", f"{build.series} {build.architecture}"]
            texts = [Text(one_line(cell)) for cell in cells]
            texts.append(Text(build.state, style=STATE_STYLES.get(build.state, "")))
            texts += [Text(build.builder or "-"), Text(elapsed(sight.for_s)), Text(one_line(sight.doing))]
            table.add_row(*texts)
        lines = min(TAIL_LINES, room - len(shown) - 3)
        if not log or lines < 1:
            return table
        text = HarmlessDecoder().decode(log, final=True)
        last = "\n".join(text.expandtabs().rstrip("\n").split("\n")[-lines:])
        return Group(table, Panel(Text(last, no_wrap=True, overflow="crop"), title="log", title_align="left"))
