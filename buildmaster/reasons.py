"""Why is a build not running, and what would change that? Sentences from facts. Pure; listings, `why` and whoever
follows builds say it in these words."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from buildmaster.lifecycle import ACTIVE, ENDED, BuildState
from buildmaster.tags import can_take

_NAMES_MAX = 3  # So many builders are named.


class Code(StrEnum):
    """A reason, for programs; docs/cli.md promises them."""

    RUNNING = "running"  # A builder has it.
    CANCELLING = "cancelling"  # A builder has it, and is told to stop.
    BUILT = "built"  # It is done.
    ENDED = "ended"  # It failed, was cancelled, or its source superseded: a person must want it again.
    DEPENDENCIES = "dependencies"  # Build-dependencies are missing.
    CHROOT = "chroot"  # There is no chroot for it, or none that works.
    NO_MASTER = "no-master"  # No master runs on the farm.
    UNCHECKED = "unchecked"  # Whether its build-dependencies are there has not been looked at yet.
    NO_BUILDER = "no-builder"  # No builder is for its architecture, or none has what it needs.
    KEPT = "kept"  # Builders there are, and all are kept for builds that need their tags.
    DISABLED = "disabled"  # Builders there are, and all are disabled.
    MANUAL = "manual"  # Builders there are, and all are in manual mode.
    PAUSE = "pause"  # It was given back or lost, and is left alone for a while.
    LEFT_TO_OTHERS = "left-to-others"  # The builder that is idle has lost it; another one is to have it.
    GIVEN = "given"  # A person gave it to a builder, which has it next.
    NEXT = "next"  # Nothing: a builder is idle, and the master's next look at it will begin a build.
    CLEANING = "cleaning"  # Every builder is being cleaned.
    FAILING = "failing"  # No builder answers as it should.
    BUSY = "busy"  # Every builder has a build.
    BAND = "higher-band"  # Builds of a higher band go before it.
    SCORE = "higher-score"  # Builds of its own archive with a higher score do.
    AGE = "older"  # Likewise, older ones with its score.
    SHARE = "fair-share"  # Other archives take turns with its own.


@dataclass(frozen=True)
class Reason:
    """One reason."""

    code: Code
    text: str  # What keeps the build.
    change: str = ""  # What would change that; "" where nothing has to.


@dataclass(frozen=True)
class Machine:
    """A builder of a build's architecture, virtualised or not as the build needs it."""

    id: int
    name: str
    state: str  # building, idle, cleaning, failing or disabled: listings.Builder.state.
    reason: str  # Why it is disabled, or fails.
    manual: bool
    failures: int
    tags: str
    restricted_tags: str
    given: int | None = None  # The build that a person gave it, and that is its next.


@dataclass(frozen=True)
class Ahead:
    """What goes before a build that waits, of what waits for builders of its kind."""

    higher_band: int  # Builds.
    higher_score: int  # Builds of its archive, of its band.
    older: int  # Builds of its archive with its score.
    archives: int  # Others that have something waiting in its band.
    lower_accounts: int  # Those of them that have used less.
    used_s: float  # By how much its archive's account is above the lowest of theirs.


@dataclass(frozen=True)
class Supply:
    """A build-dependency that is missing, and what could bring it."""

    needs: str  # As in a relationship field.
    build_id: int | None = None  # None: nothing in the farm would.
    title: str = ""  # Of that build.
    state: str = ""


@dataclass(frozen=True)
class Facts:
    """What the reasons are found in."""

    state: BuildState
    told: str  # Why it is in that state, as recorded.
    series: str
    architecture: str
    build_id: int = 0
    archive: str = ""
    dependencies: str = ""  # What a dep-wait waits for.
    supplies: tuple[Supply, ...] = ()  # The same, each with what could bring it.
    builder: str = ""  # That has it.
    stage: str = ""
    virtualised: bool = False
    needs: str = ""  # Resource tags.
    has_chroot: bool = True
    looked_at: bool = True  # Its build-dependencies were looked at, or nobody looks.
    pause_s: float = 0.0  # How long it is left alone yet.
    lost_by: int | None = None  # The last builder to lose it.
    machines: tuple[Machine, ...] = ()
    ahead: Ahead | None = None  # None: not asked for, or nothing.
    master_runs: bool = True


def reasons(facts: Facts) -> list[Reason]:
    """Every reason, the one that matters first: what is behind it matters when that is mended. Never empty."""
    if facts.state in ACTIVE:
        return [*_master(facts), _active(facts)]
    if facts.state in ENDED:
        return list(_held(facts))
    if (machine := given_to(facts)) is not None:
        return [*_master(facts), *_itself(facts), _given(machine)]
    return [*_master(facts), *_itself(facts), *_builders(facts), *_ahead(facts)]


def first(facts: Facts) -> Reason:
    """The reason that matters now; for lists."""
    return reasons(facts)[0]


def _active(facts: Facts) -> Reason:
    if facts.state is BuildState.CANCELLING:
        return Reason(
            Code.CANCELLING, f"builder {facts.builder} is told to stop it", "It is cancelled when that has stopped."
        )
    doing = "its results are being fetched" if facts.state is BuildState.GATHERING else facts.stage or "just begun"
    return Reason(Code.RUNNING, f"builder {facts.builder} has it: {doing}")


def _held(facts: Facts) -> Iterator[Reason]:
    match facts.state:
        case BuildState.DEP_WAIT:
            yield from _dependencies(facts)
        case BuildState.CHROOT_WAIT:
            text = facts.told or f"no chroot for {facts.series} on {facts.architecture}"
            place = f"{facts.series} {facts.architecture}"
            change = f"`buildmaster add-chroot {place} FILE` puts it back into the queue."
            yield Reason(Code.CHROOT, text, change)
        case BuildState.BUILT:
            yield Reason(Code.BUILT, "it is built")
        case _:
            told = f"it is {facts.state}" + (f": {facts.told}" if facts.told else "")
            yield Reason(Code.ENDED, told, "`buildmaster retry` builds it once more.")


def _dependencies(facts: Facts) -> Iterator[Reason]:
    if not facts.supplies:
        told = f"build-dependencies: {facts.dependencies}" if facts.dependencies else facts.told or str(facts.state)
        yield Reason(Code.DEPENDENCIES, told, "It goes on when its archives have them, or by `buildmaster retry`.")
    for each in facts.supplies:
        its = f"Build {each.build_id} ({each.title})"
        if each.build_id is None:
            change = "Nothing in the farm would supply that: it goes on when one of its archives has it."
        elif each.state in (*ACTIVE, BuildState.NEEDS_BUILD):
            change = f"{its}, which is {each.state}, will supply that."
        elif each.state == BuildState.BUILT:
            change = f"{its} has made that: it goes on when one of its archives has it."
        else:
            change = f"{its} would supply that, and is {each.state}: see `why {each.build_id}`."
        yield Reason(Code.DEPENDENCIES, f"build-dependencies: {each.needs}", change)


def _master(facts: Facts) -> Iterator[Reason]:
    if not facts.master_runs:
        yield Reason(Code.NO_MASTER, "no master runs on this farm", "`buildmaster run` starts one.")


def _itself(facts: Facts) -> Iterator[Reason]:
    """What is in the way whatever builders do."""
    if not facts.has_chroot:
        place = f"{facts.series} {facts.architecture}"
        change = f"`buildmaster add-chroot {place} FILE` gives it one."
        yield Reason(Code.CHROOT, f"no chroot for {facts.series} on {facts.architecture}", change)


def given_to(facts: Facts) -> Machine | None:
    """The builder that a person gave it to, which takes it whatever else there is, looked at or not."""
    mine = (each for each in facts.machines if each.given == facts.build_id and each.state != "disabled")
    return next(mine, None)


def _given(machine: Machine) -> Reason:
    text, name = f"given to {machine.name}, as its next build", machine.name
    if machine.state == "failing":
        return Reason(
            Code.FAILING,
            f"{text}, and that does not answer as it should: see `builders`",
            f"It begins when {name} does.",
        )
    return Reason(Code.GIVEN, text, f"It begins when {name} is free.")


def _builders(facts: Facts) -> Iterator[Reason]:
    """What keeps it as far as builders go: of these only one at a time, since the next matters when that is mended."""
    same = facts.machines
    able = [each for each in same if can_take(facts.needs, each.tags, each.restricted_tags)]
    usable = [each for each in able if each.state != "disabled"]
    ready = [each for each in usable if not each.manual]
    kind = f"{'virtualised ' if facts.virtualised else ''}builder for {facts.architecture}"
    kind += f" that has {facts.needs.replace(' ', ', ')}" if facts.needs and same else ""
    if not able and same and not facts.needs:
        text = f"every {kind} is kept for builds that need its tags"
        yield Reason(Code.KEPT, text, "`buildmaster change-builder` says what a builder is kept for.")
    elif not able and same:
        yield Reason(Code.NO_BUILDER, f"no {kind}", "`buildmaster change-builder` gives a builder tags.")
    elif not able:
        yield Reason(Code.NO_BUILDER, f"no {kind}", "`buildmaster add-builder URL` adds one.")
    elif not usable:
        change = f"`buildmaster enable-builder` lets one have builds again: {_names(able, why=True)}."
        yield Reason(Code.DISABLED, f"every {kind} is disabled", change)
    elif not ready:
        change = f"It begins when one no longer is: {_names(usable)}."
        yield Reason(Code.MANUAL, f"every {kind} is in manual mode", change)
    else:
        yield from _ready(facts, ready, kind)


def able(facts: Facts) -> list[Machine]:
    """The builders that can take it, now or when they are free."""
    return [
        each
        for each in facts.machines
        if can_take(facts.needs, each.tags, each.restricted_tags)
        and not each.manual
        and each.state not in ("disabled", "failing")
    ]


def _ready(facts: Facts, ready: Sequence[Machine], kind: str) -> Iterator[Reason]:
    """What keeps it when there are builders that could have it."""
    if not facts.looked_at:
        text = "whether its build-dependencies are there has not been looked at yet"
        yield Reason(Code.UNCHECKED, text, "The master does so by itself, in a few seconds.")
    idle = [each for each in ready if each.state == "idle"]
    loser = next((each.name for each in idle if each.id == facts.lost_by), "")
    others = [each for each in idle if each.id != facts.lost_by and not each.failures]  # As queue.candidates() has it.
    failing = [each for each in ready if each.state == "failing"]
    if facts.pause_s > 0:
        seconds, why = max(1, round(facts.pause_s)), f" ({facts.told})" if facts.told else ""
        yield Reason(
            Code.PAUSE,
            f"its last attempt came to nothing{why}; tried again in {seconds} s",
            "It goes on by itself then.",
        )
    if loser and others:
        yield Reason(
            Code.LEFT_TO_OTHERS, f"{loser} had it already; left to other builders", f"Idle is {_names(others)}."
        )
    elif idle:
        if facts.looked_at:
            yield Reason(Code.NEXT, "starts at the master's next look")
    elif all(each.state == "cleaning" for each in ready):
        change = f"It begins when one is clean: {_names(ready)}."
        yield Reason(Code.CLEANING, f"every {kind} is being cleaned", change)
    elif len(failing) == len(ready):
        change = f"It begins when one does: {_names(failing, why=True)}."
        yield Reason(Code.FAILING, f"no {kind} answers as it should: see `builders`", change)
    else:
        busy = len(ready) - len(failing)
        text = f"every {kind} is busy" + (", or does not answer as it should" if failing else "")
        yield Reason(
            Code.BUSY,
            text,
            f"It begins when it is its turn, and {'that one' if busy == 1 else f'one of {busy}'} is free.",
        )


def _ahead(facts: Facts) -> Iterator[Reason]:
    ahead = facts.ahead
    if ahead is None:
        return
    if ahead.higher_band:
        text = f"{_builds(ahead.higher_band)} of a higher band of scores {_go(ahead.higher_band)}"
        yield Reason(Code.BAND, text, "A higher score moves it up: docs/queue.md.")
    if ahead.higher_score:
        text = f"{_builds(ahead.higher_score)} of higher score in archive {facts.archive} {_go(ahead.higher_score)}"
        yield Reason(Code.SCORE, text, "A higher score moves it up.")
    if ahead.older:
        text = f"{_builds(ahead.older)} of the same score in archive {facts.archive}, and older, {_go(ahead.older)}"
        yield Reason(Code.AGE, text, "They are taken in the order in which they came.")
    if ahead.archives:
        text = f"archive {facts.archive} takes turns with {ahead.archives} more"
        if ahead.lower_accounts:
            text += f", {ahead.lower_accounts} of which have used less builder time, by up to {round(ahead.used_s)} s"
        yield Reason(Code.SHARE, text, "It is its turn when its account is the lowest: docs/queue.md.")


def _builds(count: int) -> str:
    return "1 build" if count == 1 else f"{count} builds"


def _go(count: int) -> str:
    return "goes before it" if count == 1 else "go before it"


def _names(machines: Iterable[Machine], why: bool = False) -> str:
    """The names of some builders, and how many there are beside."""
    known = [f"{each.name} ({each.reason})" if why and each.reason else each.name for each in machines]
    rest = len(known) - _NAMES_MAX
    return ", ".join(known[:_NAMES_MAX]) + (f" and {rest} more" if rest > 0 else "")
