"""The command `verify`: whether a file is what the farm says it built, and of what."""

import hashlib
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from buildmaster import attesting, envelopes, provenance
from buildmaster.cli.farms import farm_of
from buildmaster.cli.group import Refusal, Session, json_option, pass_session
from buildmaster.cli.text import count
from buildmaster.envelopes import BadKey, BadSignature, PublicKey
from buildmaster.farm import Farm
from buildmaster.provenance import Malformed, Told

_MOST_BYTES = 32 << 20  # Of a statement, or a key.
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


class NoStatement(Refusal):
    """There is no statement about a file."""

    exit_code = 3


class NotAStatement(Refusal):
    """What should be a signed statement is none."""

    exit_code = 4


class NotSigned(Refusal):
    """A statement is not signed by a key that counts."""

    exit_code = 5


class AnotherFile(Refusal):
    """A statement is about other files."""

    exit_code = 6


@click.command()
@click.argument("file", metavar="FILE.deb", type=_FILE)
@click.option("--statement", "statement", metavar="FILE", type=_FILE, help="The signed statement; else the farm's own.")
@click.option("--key", "key", metavar="FILE", type=_FILE, help="The key that must have signed it; else the farm's own.")
@json_option
@pass_session
def verify(session: Session, /, *, file: Path, statement: Path | None, key: Path | None) -> None:
    """Check that a file is what was built, and tell of what, where and when.

    Its SHA-256 counts, whatever it is called. With --statement and --key no farm is needed.

    \b
    Exit status:
      3 no statement about it    4 not a signed statement
      5 not signed by the key    6 a statement about other files
    \b
    Examples:
      buildmaster verify hello_2.10-3_amd64.deb
      buildmaster verify hello_2.10-3_amd64.deb --statement hello.json --key farm.pem
    """
    sha256 = _sha256(file)
    with ExitStack() as stack:
        farm = stack.enter_context(farm_of(session)) if statement is None or key is None else None
        envelope = _read(statement) if statement else _statement_of(farm, file, sha256)
        keys = [_key(key)] if key else _keys_of(farm)
    try:
        told = provenance.parse(envelopes.unwrap(envelope, keys))
    except Malformed as error:
        raise NotAStatement(f"{statement or 'what is kept'} is no signed statement of provenance: {error}") from error
    except BadSignature as error:
        raise NotSigned(f"the signature of {statement or 'the statement'} is not good: {error}") from error
    _check(told, file, sha256)
    if session.output.as_json:
        session.output.document(_document(told, file, sha256))
        return
    session.output.say(f"{file.name} is what build {told.build} made, as {told.farm} has signed.")
    session.output.facts(_facts(told, sha256))


def _check(told: Told, file: Path, sha256: str) -> None:
    if sha256 in told.files.values():
        return
    if file.name in told.files:
        raise AnotherFile(f"{file.name} was built with SHA-256 {told.files[file.name]}, but this one has {sha256}")
    others = ", ".join(told.files) or "nothing"
    raise AnotherFile(f"{file.name}, of SHA-256 {sha256}, is not among what the statement is about: {others}")


def _facts(told: Told, sha256: str) -> list[tuple[str, str]]:
    packages = count(len(told.packages), "package") if told.packages else "packages that nobody has listed"
    return [
        ("SHA-256", sha256),
        ("Built from", f"{told.source} {told.version}: {told.dsc.name}, SHA-256 {told.dsc.sha256}"),
        ("For", told.place),
        ("In", f"chroot with SHA-256 {told.chroot or '(not recorded)'}, and {packages} installed"),
        ("By", f"builder {told.builder}, from {told.started_at} to {told.finished_at}"),
    ]


def _document(told: Told, file: Path, sha256: str) -> dict[str, object]:
    return {
        "file": str(file),
        "sha256": sha256,
        "source": told.source,
        "version": told.version,
        "dsc": vars(told.dsc),
        "for": told.place,
        "farm": told.farm,
        "build": told.build,
        "builder": told.builder,
        "started": told.started_at,
        "finished": told.finished_at,
        "chroot_sha256": told.chroot,
        "installed": list(told.packages),
    }


def _statement_of(farm: Farm | None, file: Path, sha256: str) -> bytes:
    assert farm is not None  # Or there is a file with it.
    with farm.reading() as connection:
        build_id = attesting.maker_of(connection, sha256)
    if build_id is None:
        raise NoStatement(f"there is no statement about {file.name}: this farm has built nothing of SHA-256 {sha256}")
    return attesting.ensure(farm, build_id)


def _keys_of(farm: Farm | None) -> list[PublicKey]:
    assert farm is not None  # Or there is a file with it.
    with farm.reading() as connection:
        return attesting.keys(connection)


def _key(path: Path) -> PublicKey:
    try:
        return envelopes.parse_key(_read(path))
    except BadKey as error:
        raise Refusal(f"{path} cannot be used as a key: {error}; `buildmaster provenance key` prints one") from error


def _read(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_MOST_BYTES)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        for chunk in iter(partial(stream.read, 1 << 20), b""):
            digest.update(chunk)
    return digest.hexdigest()
