"""The command `when`: when a build begins and ends, and how past answers fared."""

import random
import time

import click

from buildmaster import forecasting, reasons, waiting
from buildmaster.cli.farms import farm_of, known_build, looks
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.numbers import build_number
from buildmaster.cli.presence import somebody_runs
from buildmaster.cli.text import elapsed, moment, stamp
from buildmaster.farm import Farm
from buildmaster.forecast import Forecast, Span
from buildmaster.forecasting import Past
from buildmaster.listings import Build
from buildmaster.reasons import Reason


@click.command()
@click.argument("build_id", metavar="[BUILD]", type=build_number, required=False)
@click.option("--past", is_flag=True, help="Say instead how often past answers came true.")
@json_option
@pass_session
def when(session: Session, /, *, build_id: int | None, past: bool) -> None:
    """Say when a build begins and ends: a range, in which four of five such builds do.

    It comes from what builds took before, and what goes before this one now. Answers are kept, so that --past can tell
    how they fared.

    \b
    Examples:
      buildmaster when 3
      buildmaster when --past
    """
    if past == (build_id is not None):
        raise click.UsageError("say of which build, or --past")
    with farm_of(session) as farm:
        if build_id is None:
            _tell_past(session, farm)
        else:
            _tell(session, farm, build_id)


def _tell(session: Session, farm: Farm, build_id: int) -> None:
    now = time.time()
    with farm.reading() as connection:
        build = known_build(connection, build_id)
        runs = somebody_runs(farm.directory, connection)
        facts = waiting.facts(connection, build_id, now, looks=looks(session), master_runs=runs)
        if facts is None:
            raise Refusal(f"there is no build {build_id}")
        draw = random.Random(build_id).random  # Asked twice, it says the same.
        told = forecasting.when(connection, facts, build_id, now, draw)
    if told is not None:
        farm.write(forecasting.keep, build_id, told, now)
    why = forecasting.what_blocks(facts) or reasons.first(facts)
    if session.output.as_json:
        session.output.document(_document(build, told, why, now))
    else:
        _say(session, build, told, why, now)


def _document(build: Build, told: Forecast | None, why: Reason, now: float) -> dict[str, object]:
    def span(found: Span | None) -> dict[str, object] | None:
        if found is None:
            return None
        return {"earliest": stamp(now + found.earliest_s), "latest": stamp(now + found.latest_s)}

    document: dict[str, object] = {"id": build.id, "state": build.state.value}
    document |= {"begins": span(told.begins if told else None), "ends": span(told.ends if told else None)}
    return document | {"not_before": None if told else {"code": why.code.value, "why": why.text, "change": why.change}}


def _say(session: Session, build: Build, told: Forecast | None, why: Reason, now: float) -> None:
    session.output.say(f"build {build.id}: {build.title}, {build.state}")
    if told is None and build.has_ended and build.finished_at is not None and build.state not in waiting.HELD:
        session.output.say(f"  Ended at {moment(build.finished_at)}.")
    elif told is None:
        change = f" {why.change}" if why.change else ""
        session.output.say(f"  Nobody knows: {why.text}.{change}")
    else:
        if build.builder is None or build.started_at is None or told.begins.latest_s > 0:
            session.output.say(f"  Begins {_words(told.begins, now)}.")
        session.output.say(f"  Ends {_words(told.ends, now)}.")


def _words(span: Span, now: float) -> str:
    if span.latest_s < 1:
        return "at once"
    times = f"{moment(now + span.earliest_s)} and {moment(now + span.latest_s)}"
    return f"in {elapsed(span.earliest_s)} to {elapsed(span.latest_s)}, between {times}"


def _tell_past(session: Session, farm: Farm) -> None:
    with farm.reading() as connection:
        found: Past = forecasting.past(connection)
    if session.output.as_json:
        session.output.document({"past": vars(found)})
        return
    if not found.begun and not found.ended:
        session.output.say("No build that `buildmaster when` was asked about has begun since.")
        return
    session.output.say(f"{found.begun_within} of {found.begun} builds began when that was told beforehand.")
    session.output.say(f"{found.ended_within} of {found.ended} builds that were built ended when that was told.")
