"""The command `fetch`: what a build made, out of the farm."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import click

from buildd.protocol import parse_file_name
from buildmaster import attesting, listings
from buildmaster.cli.documents import file_document
from buildmaster.cli.farms import farm_of, known_build
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.log import stored_log
from buildmaster.cli.numbers import build_number
from buildmaster.farm import Farm
from buildmaster.lifecycle import BuildState
from buildmaster.listings import Build, File
from buildmaster.store import Sha256


@click.command()
@click.argument("build_id", metavar="BUILD", type=build_number)
@click.option(
    "--to",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    show_default="here",
    help="Directory to copy to; made when it does not exist.",
)
@json_option
@pass_session
def fetch(session: Session, /, *, build_id: int, directory: Path) -> None:
    """Copy what a build made, its log, and the signed statement of its provenance, out of the farm.

    Every digest is checked on the way.

    Files of the same name are replaced, each in one step.

    \b
    Example:
      buildmaster fetch 3 --to results
    """
    with farm_of(session) as farm:
        with farm.reading() as connection:
            build = known_build(connection, build_id)
            results = listings.results(connection, build_id)
        if not results and build.log_sha256 is None:
            raise Refusal(
                f"build {build_id} has no files: it is {build.state}. `buildmaster show {build_id}` tells more"
            )
        directory.mkdir(parents=True, exist_ok=True)
        for each in results:
            copy_out(farm, each, directory)
        statement = copy_statement(session, farm, build, [each.name for each in results], directory)
        log_path = None
        if build.log_sha256 is not None:
            log_path = copy_log(farm, build, directory)
    if session.output.as_json:
        files = [file_document(each) | {"path": str(directory / each.name)} for each in results]
        log_shown = str(log_path) if log_path else None
        document = {"id": build.id, "state": build.state.value, "files": files, "log": log_shown}
        session.output.document(document | {"provenance": str(statement) if statement else None})
        return
    if results and build.state is BuildState.FAILED_UPLOAD:
        session.output.hint(f"These results were refused: {build.reason}")
    for each in results:
        session.output.say(f"{directory / each.name}")
    if statement:
        session.output.say(f"{statement}")
    if log_path:
        session.output.say(f"{log_path}")


def copy_out(farm: Farm, file: File, directory: Path) -> Path:
    """Copy a file out of the store, whole or not at all.

    :raises Refusal: its content is not what its digest says.
    """
    path = directory / parse_file_name(file.name)
    digest = hashlib.sha256()
    with farm.store.open(Sha256(file.sha256)) as source:
        _write(path, _hashed(iter(partial(source.read, 1 << 20), b""), digest.update), lambda: _check(file, digest))
    return path


def copy_statement(session: Session, farm: Farm, build: Build, results: list[str], directory: Path) -> Path | None:
    """Write the signed statement about a build beside its results, named as its .changes is; None: there is none."""
    changes = next((name for name in results if name.endswith(".changes")), f"build-{build.id}.changes")
    path = directory / parse_file_name(changes.removesuffix(".changes") + ".provenance.json")
    try:
        envelope = attesting.ensure(farm, build.id)
    except attesting.NothingToState:
        return None
    except attesting.NoKey as error:
        session.output.hint(f"There is no statement of provenance: {error}")
        return None
    _write(path, iter((envelope,)), lambda: None)
    return path


def copy_log(farm: Farm, build: Build, directory: Path) -> Path:
    """Copy a build's stored log, unpacked, under its name without .gz."""
    path = directory / parse_file_name(build.log_name.removesuffix(".gz") or f"build-{build.id}.log")
    _write(path, stored_log(farm, Sha256(build.log_sha256 or "")), lambda: None)
    return path


def _hashed(chunks: Iterator[bytes], update: Callable[[bytes], object]) -> Iterator[bytes]:
    for chunk in chunks:
        update(chunk)
        yield chunk


def _check(file: File, digest: "hashlib._Hash") -> None:
    if digest.hexdigest() != file.sha256:
        raise Refusal(f"{file.name} is damaged in the farm's store: its SHA-256 should be {file.sha256}")


def _write(path: Path, chunks: Iterator[bytes], check: Callable[[], None]) -> None:
    """Write a file beside, and give it its name once it is whole and checked."""
    descriptor, beside = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            for chunk in chunks:
                stream.write(chunk)
        check()
        umask = os.umask(0)
        os.umask(umask)
        Path(beside).chmod(0o666 & ~umask)
        Path(beside).replace(path)
    finally:
        Path(beside).unlink(missing_ok=True)
