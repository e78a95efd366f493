"""The command `log`: a build's log, as it grows and after it was put away."""

import gzip
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import click
from sqlalchemy import Connection

from buildmaster import builders, builds, waiting
from buildmaster.cli.farms import farm_of, known_build, looks
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.growing import CHUNK_BYTES, Attempt, GrowingLog
from buildmaster.cli.numbers import build_number
from buildmaster.cli.text import HarmlessDecoder
from buildmaster.farm import Farm
from buildmaster.lifecycle import ACTIVE
from buildmaster.listings import Build
from buildmaster.store import Sha256

LOOK_EVERY_S = 0.3


@click.command()
@click.argument("build_id", metavar="BUILD", type=build_number)
@click.option("--no-follow", is_flag=True, help="Show what there is, and end.")
@json_option
@pass_session
def log(session: Session, /, *, build_id: int, no_follow: bool) -> None:
    """Show a build's log, and follow it while it grows.

    On a terminal, control characters in it are shown, not sent. Into a pipe or a file it goes as it is. --json gives
    the log so far, and does not follow.

    \b
    Examples:
      buildmaster log 3
      buildmaster log 3 --no-follow > hello.log
    """
    with farm_of(session) as farm:
        with farm.reading() as connection:
            build = known_build(connection, build_id)
            why_not = waiting.why_not_running(connection, build_id, time.time(), looks=looks(session))
        if session.output.as_json:
            chunks = read_log(farm, build_id, follow=False)
            text = b"".join(chunks).decode("utf-8", "replace")
            session.output.document(
                {"id": build.id, "state": build.state.value, "ended": build.has_ended, "text": text}
            )
            return
        if why_not and not no_follow:
            session.output.hint(f"-- build {build_id} waits: {why_not}; `buildmaster why {build_id}` tells more")
        write = _terminal_writer() if session.output.on_terminal else _pipe_writer()
        wrote = False
        for chunk in read_log(farm, build_id, follow=not no_follow, note=session.output.hint):
            wrote = True
            write(chunk, False)
        write(b"", True)
        with farm.reading() as connection:
            build = known_build(connection, build_id)
    if not wrote:
        why = "it has not started" if build.started_at is None else "its builder sent none"
        raise Refusal(f"build {build_id} has no log: {why}. `buildmaster show {build_id}` tells its state")
    if build.has_ended:
        session.output.hint(f"-- build {build_id}: {build.state}{': ' + build.why if build.why else ''}")


def read_log(
    farm: Farm,
    build_id: int,
    follow: bool,
    note: Callable[[str], None] = lambda _: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[bytes]:
    """A build's log in pieces: the growing copy while it runs, then the rest from the store.

    :param follow: go on until the build has ended; else what there is now.
    :param note: told when the build begins again, since a new log begins with it.
    """
    told = ""
    with closing(_growing(farm, build_id)) as growing:
        while True:
            # The state first: what the log had when the build ended is then read below, or is in the store.
            with farm.reading() as connection:
                build = known_build(connection, build_id)
                attempt = _attempt(connection, build)
            if growing.look_at(attempt) or growing.began_again():
                note(f"-- build {build_id} began again --")
            ended = build.has_ended or (not follow and build.state not in ACTIVE)
            if ended and build.log_sha256 is not None:
                yield from growing.rest_of(partial(stored_log, farm, Sha256(build.log_sha256)))
                return
            while chunk := growing.read():
                yield chunk
            if growing.trouble and not told:
                told = growing.trouble
                note(
                    f"-- the log cannot be fetched from the builder now: {told}; all of it is shown when the build ends"
                )
            if ended or not follow:
                return
            sleep(LOOK_EVERY_S)


def _growing(farm: Farm, build_id: int) -> GrowingLog:
    """Where the log of a build is that runs: beside the one master that there is, or with the builder."""
    path = farm.log_path(build_id)
    if not farm.is_shared:
        return GrowingLog(path)
    from buildmaster.cli.builder_log import BuilderLog  # noqa: PLC0415

    return BuilderLog(path)


def _attempt(connection: Connection, build: Build) -> Attempt | None:
    if build.state not in ACTIVE or not build.builder:
        return None
    url = builders.find(connection, build.builder).url
    return Attempt(url, builds.cookie(build.id), build.started_at or 0.0)


def stored_log(farm: Farm, sha256: Sha256) -> Iterator[bytes]:
    """A log from the store, unpacked.

    :raises Refusal: it is damaged.
    """
    try:
        with farm.store.open(sha256) as packed, gzip.open(packed) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Refusal(f"the stored log {sha256} is damaged: {error}") from error


Writer = Callable[[bytes, bool], None]


def _terminal_writer() -> Writer:
    decoder = HarmlessDecoder()

    def write(data: bytes, final: bool) -> None:
        click.echo(decoder.decode(data, final), nl=False)

    return write


def _pipe_writer() -> Writer:
    def write(data: bytes, final: bool) -> None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()

    return write
