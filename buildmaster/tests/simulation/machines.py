"""Machines that build: what a builder says and does, honest or not, and what its network makes of that."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from xmlrpc.client import Binary, Fault

from buildd.protocol import BuilderStatus, BuildStatus
from buildmaster.tests.fakes import make_results, sha1_of
from buildmaster.tests.simulation.clock import SimClock


class Trick(StrEnum):
    """What a machine does wrong with a build."""

    NONE = "none"
    WRONG_COOKIE = "wrong-cookie"  # It says another build's id.
    WRONG_WORD = "wrong-word"  # It says a status that there is not.
    WRONG_TYPE = "wrong-type"  # Its status is no struct, or no strings are in it.
    WRONG_DIGEST = "wrong-digest"  # It serves other files than it promises.
    NO_RESULTS = "no-results"  # It says OK, and has nothing.
    TURNCOAT = "turncoat"  # It says OK, and then something else.
    FORGETS = "forgets"  # It loses the build, as if switched off and on.
    REFUSES = "refuses"  # It does not take the build.
    NO_FILES = "no-files"  # It cannot fetch files.
    BREAKS = "breaks"  # It says BUILDERFAIL.
    ABORTS = "aborts"  # It stops what nobody asked it to stop.
    DEAF = "deaf"  # It does not stop what it is asked to stop, for a long time.
    HANGS = "hangs"  # It says nothing any more, for a while.
    HANGS_FOR_EVER = "hangs-for-ever"  # And never again.
    VANISHES = "vanishes"  # Connections are refused for a while, and the build is gone.
    UNCLEAN = "unclean"  # It says that it is clean, and then that it builds something.


class Way(StrEnum):
    """What becomes of a request."""

    THROUGH = "through"
    REFUSED = "refused"  # At once.
    LOST = "lost"  # It never arrives.
    ANSWER_LOST = "answer-lost"  # It arrives, and nobody hears of that.


_ENDS = {
    BuildStatus.OK: 80,
    BuildStatus.PACKAGEFAIL: 8,
    BuildStatus.DEPFAIL: 4,
    BuildStatus.CHROOTFAIL: 2,
    BuildStatus.GIVENBACK: 4,
    BuildStatus.BUILDERFAIL: 2,
}


@dataclass(frozen=True)
class Nature:
    """What kind of machine it is."""

    tricks: tuple[Trick, ...] = ()
    trickery: float = 0.0  # How many of its builds something is wrong with, from 0 to 1.
    loss: float = 0.0  # How many of its requests, or answers, are lost.
    latency_s: float = 0.02
    waits: bool = True  # It has wait(), as ours; a stock daemon has not.
    duration_s: tuple[float, float] = (20.0, 600.0)
    ends: Mapping[BuildStatus, int] = field(default_factory=lambda: _ENDS)  # How builds end, and how often.


HONEST = Nature()
_NONSENSE: tuple[object, ...] = (7, "IDLE", [], ["BuilderStatus.IDLE"], True, {}, {"builder_status": 3}, None)
_TROUBLE_S = (30.0, 1200.0)  # How long a machine hangs, or is gone.


@dataclass
class Machine:
    """One builder."""

    name: str
    clock: SimClock
    chance: random.Random
    sources: Mapping[str, tuple[str, str]]  # Name and version by the SHA-1 of the .dsc.
    architecture: str = "amd64"
    nature: Nature = HONEST
    status: BuilderStatus = BuilderStatus.IDLE
    cookie: str = ""
    build_status: BuildStatus | None = None
    log: bytes = b""
    filemap: dict[str, str] = field(default_factory=dict)
    cache: dict[str, bytes] = field(default_factory=dict)
    trick: Trick = Trick.NONE
    said: list[tuple[str, BuildStatus]] = field(default_factory=list)  # How builds ended here, by cookie.
    begun: list[str] = field(default_factory=list)
    watchers: list[Callable[[], object]] = field(default_factory=list)  # Told once of the next change.
    _gone_until: float = -1.0
    _silent_until: float = -1.0
    _build: int = 0  # Counts builds: what is due for an earlier one is void.
    _told: int = 0

    @property
    def url(self) -> str:
        return f"http://{self.name}:8221/"

    def repair(self) -> None:
        """Make an honest machine of it. The build that it has goes on, if it does."""
        self.nature, self.trick = Nature(ends=self.nature.ends), Trick.NONE
        self._gone_until = self._silent_until = -1.0
        if self.status in (BuilderStatus.BUILDING, BuilderStatus.ABORTING):
            self._later(60.0, self._stopped)

    def switch_off(self, seconds: float) -> None:
        """Nobody answers for a while, and then it knows nothing."""
        self._gone_until = self.clock.seconds() + seconds
        self._forget()

    # The network

    def way(self) -> tuple[Way, float]:
        """What becomes of a request that is made now, and how long it takes each way."""
        latency = self.chance.uniform(0.2, 2.0) * self.nature.latency_s
        now, dice = self.clock.seconds(), self.chance.random()
        if now < self._gone_until:
            return Way.REFUSED, latency
        if now < self._silent_until or dice < self.nature.loss / 2:
            return Way.LOST, latency
        return Way.ANSWER_LOST if dice < self.nature.loss else Way.THROUGH, latency

    # What it answers

    def answer(self, method: str | None, *args: object) -> object:
        """One method of the protocol, but for wait().

        :raises Fault: as the daemon does.
        """
        match method, args:
            case "status", ():
                return self._lie(self._tell())
            case "ensurepresent", (str(sha1), str(_url), _, _):
                return self._fetch(sha1)
            case "build", (str(cookie), _, str(chroot), dict(filemap), _):
                return self._begin(cookie, chroot, filemap)
            case "abort", ():
                return self._abort()
            case "clean", ():
                return self._clean()
        raise Fault(8001, f"procedure {method} not found")

    def file(self, name: str) -> bytes | None:
        """What is at filecache/NAME."""
        if name == "buildlog":
            return self.log or None
        data = self.cache.get(name)
        return data + b"!" if data is not None and self.trick is Trick.WRONG_DIGEST else data

    def _tell(self) -> dict[str, object]:
        told: dict[str, object] = {"builder_status": str(self.status), "builder_version": "sim-1"}
        if self.status is BuilderStatus.IDLE:
            return told
        told["build_id"] = self.cookie
        if self.status is BuilderStatus.WAITING:
            told |= {"build_status": str(self.build_status), "filemap": self.filemap, "dependencies": "libodd-dev"}
        else:
            self.log += b"a line\n"
            told["logtail"] = Binary(self.log[-100:])
        return told

    def _lie(self, told: dict[str, object]) -> object:
        match self.trick:
            case Trick.WRONG_COOKIE if "build_id" in told:
                return told | {"build_id": "PACKAGEBUILD-99999999"}
            case Trick.WRONG_WORD if self.status is not BuilderStatus.IDLE:
                return told | {"builder_status": "BuilderStatus.DANCING"}
            case Trick.WRONG_TYPE if self.status is not BuilderStatus.IDLE:
                return self.chance.choice(_NONSENSE)
            case Trick.TURNCOAT if self.build_status is BuildStatus.OK:
                self._told += 1
                return told | ({"build_status": "BuildStatus.PACKAGEFAIL"} if self._told > 1 else {})
            case Trick.UNCLEAN if self.status is BuilderStatus.IDLE and self.begun:
                self._told += 1
                lie = {"builder_status": "BuilderStatus.BUILDING", "build_id": "PACKAGEBUILD-99999999"}
                return told | (lie if self._told > 1 else {})
        return told

    def _fetch(self, sha1: str) -> list[object]:
        if self._tricks(Trick.NO_FILES):
            return [False, "Error accessing Librarian: no route"]
        self.cache.setdefault(sha1, b"")
        return [True, "Download"]

    def _tricks(self, *which: Trick) -> bool:
        """Whether something is wrong, in one of these ways, with the build that is about to begin."""
        wrong = [trick for trick in self.nature.tricks if trick in which]
        return bool(wrong) and self.chance.random() < self.nature.trickery

    def _begin(self, cookie: str, chroot: str, filemap: dict[str, str]) -> object:
        if self.status is not BuilderStatus.IDLE:
            raise Fault(1, "not IDLE")
        if not {chroot, *filemap.values()} <= self.cache.keys() or self._tricks(Trick.REFUSES):
            return ["BuilderStatus.UNKNOWNSUM", "because"]
        self._build += 1
        self._told = 0
        self.status, self.cookie, self.log = BuilderStatus.BUILDING, cookie, f"building {cookie}\n".encode()
        self.begun.append(cookie)
        self._source = next(self.sources[sha1] for name, sha1 in filemap.items() if name.endswith(".dsc"))
        self.trick = self.chance.choice(self.nature.tricks) if self._tricks(*self.nature.tricks) else Trick.NONE
        took = self.chance.uniform(*self.nature.duration_s)
        self._later(took, self._end)
        self._later(self.chance.uniform(0, took), self._play)
        return ["BuilderStatus.BUILDING", cookie]

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        build = self._build
        self.clock.callLater(seconds, lambda: act() if build == self._build else None)

    def _play(self) -> None:
        """What goes wrong in the middle of a build, unless the machine was repaired meanwhile."""
        seconds = self.chance.uniform(*_TROUBLE_S)
        match self.trick:
            case Trick.FORGETS:
                self._forget()
            case Trick.VANISHES:
                self.switch_off(seconds)
            case Trick.HANGS:
                self._silent_until = self.clock.seconds() + seconds
            case Trick.HANGS_FOR_EVER:
                self._silent_until = float("inf")

    def _end(self) -> None:
        if self.status is not BuilderStatus.BUILDING:
            return
        match self.trick:
            case Trick.BREAKS:
                end = BuildStatus.BUILDERFAIL
            case Trick.ABORTS:
                end = BuildStatus.ABORTED
            case Trick.WRONG_DIGEST | Trick.NO_RESULTS | Trick.TURNCOAT:
                end = BuildStatus.OK
            case _:
                (end,) = self.chance.choices(tuple(self.nature.ends), tuple(self.nature.ends.values()))
        results: dict[str, bytes] = {}
        if end is BuildStatus.OK and self.trick is not Trick.NO_RESULTS:
            name, version = self._source
            results = make_results(
                name, version, {f"{name}_{version}_{self.architecture}.deb": f"as {self.cookie}\n".encode()}
            )
        self.filemap = {name: sha1_of(data) for name, data in results.items()}
        self.cache |= {sha1_of(data): data for data in results.values()}
        self.log += b"done\n"
        self._wait_with(end)

    def _wait_with(self, end: BuildStatus) -> None:
        self.status, self.build_status = BuilderStatus.WAITING, end
        self.said.append((self.cookie, end))
        self._changed()

    def _abort(self) -> str:
        if self.status is BuilderStatus.BUILDING:
            self.status = BuilderStatus.ABORTING
            self._later(1000.0 if self.trick is Trick.DEAF else self.chance.uniform(0.1, 20.0), self._stopped)
            self._changed()
        elif self.status is not BuilderStatus.ABORTING:
            raise Fault(1, "not BUILDING")
        return "BuilderStatus.ABORTING"

    def _stopped(self) -> None:
        self.filemap = {}
        self._wait_with(BuildStatus.ABORTED)

    def _clean(self) -> str:
        if self.status is not BuilderStatus.WAITING:
            raise Fault(1, "not WAITING")
        for sha1 in self.filemap.values():
            self.cache.pop(sha1, None)
        self._forget()
        return "BuilderStatus.IDLE"

    def _forget(self) -> None:
        self._build += 1
        self.status, self.cookie, self.build_status, self.filemap = BuilderStatus.IDLE, "", None, {}
        if self.trick is not Trick.UNCLEAN:
            self.trick = Trick.NONE
        self._changed()

    def _changed(self) -> None:
        watchers, self.watchers = self.watchers, []
        for watcher in watchers:
            watcher()


def troubled(chance: random.Random) -> Nature:
    """Some machine or other with which something is wrong now and then."""
    tricks = [trick for trick in Trick if trick is not Trick.NONE]
    return Nature(
        tricks=tuple(chance.sample(tricks, chance.randint(0, 4))),
        trickery=chance.choice((0.1, 0.5, 1.0)),
        loss=chance.choice((0.0, 0.0, 0.02, 0.2)),
        latency_s=chance.choice((0.02, 0.02, 2.0, 15.0)),
        waits=chance.random() < 0.5,
        duration_s=chance.choice(((20.0, 600.0), (1.0, 5.0), (600.0, 3600.0))),
    )
