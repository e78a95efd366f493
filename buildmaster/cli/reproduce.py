"""The command `reproduce`: a build once more, and what came of it beside the first time."""

import tempfile
import time
from pathlib import Path

import click

from buildmaster import reproductions
from buildmaster.cli.farms import farm_of, known_build, looks
from buildmaster.cli.fetch import copy_out
from buildmaster.cli.follow import follow, view_for
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.numbers import build_number
from buildmaster.cli.presence import somebody_runs, tell_absence
from buildmaster.cli.setup import parse_apt_line
from buildmaster.cli.text import count
from buildmaster.diffoscope import CannotCompare, can_shut_in, differences
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState
from buildmaster.listings import Build, results
from buildmaster.reproductions import How, Outcome

_SHOWN_LINES = 60
_SHOWN_CIRCUMSTANCES = 20


@click.command()
@click.argument("build_id", metavar="BUILD", type=build_number)
@click.option("--builder", "builder", metavar="NAME", help="Give it to this builder as its next build.")
@click.option(
    "--archive-line",
    "lines",
    metavar="LINE",
    multiple=True,
    help="A line of sources.list, such as a snapshot's, in place of those that its archive has now.",
)
@click.option(
    "--newest",
    is_flag=True,
    help="Take the newest packages that there are, not those versions that were installed the first time.",
)
@click.option("--no-wait", is_flag=True, help="Put it into the queue; call this again with its number to compare.")
@click.option("--no-diff", is_flag=True, help="Do not look into files that differ.")
@click.option(
    "--report",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write there, in full, what diffoscope says.",
)
@click.option(
    "--diff-limit",
    "limit_s",
    metavar="SECONDS",
    type=click.FloatRange(1),
    default=600.0,
    show_default=True,
    help="How long diffoscope may take for a file.",
)
@json_option
@pass_session
def reproduce(
    session: Session,
    /,
    *,
    build_id: int,
    builder: str | None,
    lines: tuple[str, ...],
    newest: bool,
    no_wait: bool,
    no_diff: bool,
    report: Path | None,
    limit_s: float,
) -> int:
    """Build again what was built, on another builder if there is one, and compare.

    It is built from the same source, in the same chroot while the store has that, with the packages that its .buildinfo
    names, in those versions as far as the archives, or those that --archive-line names, still have them; what is
    otherwise is told. The results are published nowhere. Where files differ, diffoscope
    tells in what. BUILD may be a repetition that was ordered before. Exit status 0: all is the same; 1: it is not, or
    it was not built.

    \b
    Examples:
      buildmaster reproduce 3
      buildmaster reproduce 3 --archive-line \\
          "deb [check-valid-until=no] http://snapshot.debian.org/archive/debian/20261122T120000Z bookworm main"
    """
    with farm_of(session) as farm:
        how = How(builder, tuple(parse_apt_line(line, None) for line in lines), newest)
        repetition = _ordered(session, farm, build_id, how)
        if no_wait:
            words = session.command_on(farm.directory, f"reproduce {repetition}")
            session.output.hint(f"Compare with: {words}")
            if session.output.as_json:
                session.output.document({"reproduction": repetition})
            return 0
        (build,) = follow(farm, [repetition], view_for(session.output), looks=looks(session))
        if build.state is not BuildState.BUILT:
            return _tell_failure(session, build)
        outcome = reproductions.outcome(farm, repetition)
        told = {} if no_diff else _differences(session, farm, outcome, limit_s)
    if report is not None:
        report.write_text("".join(told.values()))
    _tell(session, outcome, told)
    return 0 if outcome.is_reproduced else 1


def _ordered(session: Session, farm: Farm, build_id: int, how: How) -> int:
    """The build that repeats this one, or which this one is; put into the queue if there is none yet."""
    with farm.reading() as connection:
        build = known_build(connection, build_id)
        others = reproductions.others(connection, build.reproduces or build_id)
        runs = somebody_runs(farm.directory, connection)
    if build.reproduces is not None:
        return build_id
    try:
        repetition = reproductions.order(farm, build_id, time.time(), how)
    except reproductions.CannotRepeat as error:
        raise Refusal(str(error)) from error
    session.output.say(f"build {repetition} repeats build {build_id}: {build.title}")
    if not others and how.builder is None:
        session.output.hint(
            f"There is no builder for {build.architecture} but {build.builder}, which made build {build_id}."
        )
    if not runs:
        tell_absence(session, farm.directory)
    return repetition


def _differences(session: Session, farm: Farm, outcome: Outcome, limit_s: float) -> dict[str, str]:
    """What diffoscope says, by name, of each file that both builds made and that differs."""
    told = {}
    both = [each.name for each in outcome.differing if each.was and each.now]
    if both and not can_shut_in(farm.directory):
        session.output.hint(
            "diffoscope runs with the network and your files in its reach, since user namespaces cannot be had here: "
            "leave it out with --no-diff where you do not trust what was built."
        )
    with tempfile.TemporaryDirectory(prefix="reproduce-") as room:
        for place, build_id in (("was", outcome.original), ("now", outcome.reproduction)):
            (Path(room) / place).mkdir()
            with farm.reading() as connection:
                files = [each for each in results(connection, build_id) if each.name in both]
            for file in files:
                copy_out(farm, file, Path(room) / place)
        for name in both:
            try:
                told[name] = differences(Path(room, "was", name), Path(room, "now", name), limit_s, farm.directory)
            except CannotCompare as error:
                told[name] = f"{error}\n"
    return told


def _tell_failure(session: Session, build: Build) -> int:
    session.output.say(f"build {build.reproduces} is not reproduced: build {build.id} is {build.state}: {build.why}")
    if session.output.as_json:
        words = {"original": build.reproduces, "reproduction": build.id, "state": build.state.value}
        session.output.document(words | {"reproduced": False, "why": build.why})
    return 1


def _tell(session: Session, outcome: Outcome, told: dict[str, str]) -> None:
    if session.output.as_json:
        session.output.document(_document(outcome, told))
        return
    say = session.output.say
    if outcome.is_reproduced:
        same = f"all of {count(len(outcome.same), 'file')} the same"
        say(f"build {outcome.original} is reproduced by build {outcome.reproduction}: {same}")
    else:
        say(f"build {outcome.original} is not reproduced by build {outcome.reproduction}:")
    for each in outcome.differing:
        say(f"  {each.name}: " + _in_words(each.was, each.now))
    if outcome.otherwise:
        say("Circumstances:")
        for words in outcome.otherwise[:_SHOWN_CIRCUMSTANCES]:
            say(f"  {words}")
        if len(outcome.otherwise) > _SHOWN_CIRCUMSTANCES:
            say(f"  and {len(outcome.otherwise) - _SHOWN_CIRCUMSTANCES} more: --json has all")
    for name, text in told.items():
        lines = text.splitlines()
        say(f"\n{name}:")
        for line in lines[:_SHOWN_LINES]:
            say(f"  {line}")
        if len(lines) > _SHOWN_LINES:
            session.output.hint(f"  ({len(lines) - _SHOWN_LINES} more lines: --report FILE has all)")


def _in_words(was: str, now: str) -> str:
    if not was:
        return "made by the second only"
    return f"SHA-256 {now}, not {was}" if now else "made by the first only"


def _document(outcome: Outcome, told: dict[str, str]) -> dict[str, object]:
    return {
        "original": outcome.original,
        "reproduction": outcome.reproduction,
        "state": BuildState.BUILT.value,
        "reproduced": outcome.is_reproduced,
        "same": outcome.same,
        "differing": [vars(each) | {"diff": told.get(each.name, "")} for each in outcome.differing],
        "otherwise": outcome.otherwise,
    }
