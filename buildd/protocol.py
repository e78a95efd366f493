"""The builder protocol, version 1.0: the words, structs and checks that daemon and master share.

It is Launchpad's wire protocol (docs/protocol.md). This module needs the standard library only, does no I/O, and is the
one place where the words on the wire are written down. Whatever comes off the wire goes through a ``parse_*`` function
once, at the edge; inside, a :data:`Sha1` is good because it exists.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, NewType, TypedDict
from xmlrpc.client import Binary

PROTOCOL_VERSION = "1.0"
DEFAULT_PORT = 8221
LOG_TAIL_BYTES = 2048
WAIT_MAX_S = 60.0
NAME_MAX = 255  # Bytes; what Linux file systems take.
ERROR_MAX = 2000  # Bytes of the first error that a status has.
_SHOWN_MAX = 80  # Characters of a value in an error message.


class ProtocolError(ValueError):
    """Something off the wire is not what the protocol allows; the message says what and why."""


class BuilderStatus(StrEnum):
    """What a daemon is doing."""

    IDLE = "BuilderStatus.IDLE"  # No build. The master's build() moves it on.
    BUILDING = "BuilderStatus.BUILDING"  # A build runs. Ends by itself, or by abort().
    WAITING = "BuilderStatus.WAITING"  # The build ended; results are held until the master's clean().
    ABORTING = "BuilderStatus.ABORTING"  # abort() was called; WAITING follows once everything has stopped.


class BuildAnswer(StrEnum):
    """First item of what build() answers."""

    BUILDING = "BuilderStatus.BUILDING"  # Started.
    UNKNOWN_BUILDER = "BuilderStatus.UNKNOWNBUILDER"  # No such build type here.
    UNKNOWN_SUM = "BuilderStatus.UNKNOWNSUM"  # Chroot or a file is not in the cache.


class BuildStatus(StrEnum):
    """How a build ended, as WAITING reports it."""

    OK = "BuildStatus.OK"  # Results are in the filemap.
    DEPFAIL = "BuildStatus.DEPFAIL"  # Build-dependencies that nothing satisfies; `dependencies` names them.
    GIVENBACK = "BuildStatus.GIVENBACK"  # Nobody's fault, worth another try: an archive did not answer.
    PACKAGEFAIL = "BuildStatus.PACKAGEFAIL"  # The package itself does not build.
    CHROOTFAIL = "BuildStatus.CHROOTFAIL"  # The chroot is broken.
    BUILDERFAIL = "BuildStatus.BUILDERFAIL"  # The builder is broken.
    ABORTED = "BuildStatus.ABORTED"  # Stopped by abort().


class PackageBuilderName(StrEnum):
    """What builds a package, ours alone."""

    SBUILD = "sbuild"  # Debian's own, in a root that has the build-dependencies already.
    DIRECT = "direct"  # dpkg-buildpackage, with nothing around it but what sbuild's logs have.


class Cause(StrEnum):
    """Why a build failed, in a word or two; ours alone. The rules that find it are in buildd/causes.py."""

    COMPILE = "compile"  # A command of the package's build failed: a compiler, a linker, configure, make.
    TESTS = "tests"  # It was built, and its own tests fail.
    PACKAGING = "packaging"  # It was built, and its packages cannot be made: a file is missing, dh_* or dpkg-* refuse.
    SOURCE = "source"  # The source package cannot be unpacked, or is not for this architecture.
    DEPENDENCY = "dependency"  # Its build-dependencies cannot be installed.
    ARCHIVE = "archive"  # An archive did not answer: nobody's fault.
    CHROOT = "chroot"  # The chroot is broken.
    NETWORK_WANTED = "network wanted"  # The build reached out for what it may not reach.
    MEMORY = "memory"  # More of it was wanted than there is, or than a build may have.
    PROCESSES = "processes"  # Likewise.
    OPEN_FILES = "open files"  # Likewise.
    DISK = "disk"  # Likewise; whose disk, or whose limit, the status and the reason tell.
    TIME = "time"  # It took longer than a build may.
    SILENCE = "silence"  # It wrote nothing for longer than a build may.
    LOG_SIZE = "log size"  # Its log grew longer than it may.
    SIGNAL = "killed by signal"  # A tool of the build crashed, or was killed.
    BUILDER = "builder fault"  # The builder is broken, and not the package.


_NOT_IN_LOGS = frozenset({Cause.TIME, Cause.SILENCE, Cause.LOG_SIZE})

STATUSES_WITH_FILES = frozenset({BuildStatus.OK, BuildStatus.PACKAGEFAIL, BuildStatus.DEPFAIL})

Sha1 = NewType("Sha1", str)  # 40 lower-case hex digits.
FileName = NewType("FileName", str)  # One plain path segment.
BuildId = NewType("BuildId", str)  # One plain path segment; the master's cookie for a build.

_SHA1 = re.compile(r"[0-9a-f]{40}", re.ASCII)
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]{0,63}", re.ASCII)
_PROFILE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,99}", re.ASCII)
_PACKAGE_VERSION = re.compile(
    r"[a-z0-9][a-z0-9+.-]{0,254}(?::[a-z0-9-]{1,255})?=[0-9A-Za-z][0-9A-Za-z.+~:-]{0,254}", re.ASCII
)
_BUILD_OPTION = re.compile(
    r"parallel=[1-9]\d{0,4}|(?!parallel(?:=|$))[a-z][a-z0-9_-]{0,99}(?:=[A-Za-z0-9_.,:+-]{0,99})?", re.ASCII
)
_MAINTAINER = re.compile(r"[^<>\s][^<>]{0,199} <[^<>\s]{1,200}>")
_BINNMU_MAX = 9999
_DIGITS_MAX = 12
_DIGITS = re.compile(rf"\d{{1,{_DIGITS_MAX}}}", re.ASCII)
_SUITE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63}(?:/[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63})?", re.ASCII)


def error_heading(cause: str) -> str:
    """What the lines of the log are that go with a Cause: no line of it says that the build took too long."""
    return "Last lines" if cause in _NOT_IN_LOGS else "First error"


class StatusStruct(TypedDict, total=False):
    """What status() answers. Keys beyond these are a build type's own, and may be ignored."""

    builder_status: str  # A BuilderStatus; always there.
    builder_version: str  # The daemon's own version.
    build_id: str  # Unless IDLE.
    logtail: Binary  # While BUILDING: the last LOG_TAIL_BYTES of the log.
    stage: str  # While BUILDING, ours alone: the step that the build is in, one plain word or two.
    build_status: str  # While WAITING: a BuildStatus.
    filemap: dict[str, str]  # While WAITING, for STATUSES_WITH_FILES: file name to SHA-1.
    dependencies: str  # Beside filemap: a Debian relationship, "" unless DEPFAIL.
    reason: str  # While WAITING, ours alone: one sentence on why the build ended so.
    cause: str  # While WAITING, for a build that failed, ours alone: a Cause.
    error: str  # Beside cause: the lines of the log that say so first, at most ERROR_MAX bytes; "" when none do.


def parse_sha1(value: object) -> Sha1:
    """Take 40 hex digits of either case.

    :raises ProtocolError: anything else.
    """
    if isinstance(value, str) and _SHA1.fullmatch(value.lower()) and value.isascii():
        return Sha1(value.lower())
    raise ProtocolError(f"not a SHA-1 of 40 hex digits: {_shown(value)}")


def _parse_segment(value: object, what: str) -> str:
    """One plain path segment: not empty, no separator, no control character, not hidden, at most NAME_MAX bytes."""
    if not isinstance(value, str):
        raise ProtocolError(f"{what} must be a string, not {_shown(value)}")
    if not value:
        raise ProtocolError(f"{what} is empty")
    if value.startswith(".") or "/" in value or "\\" in value or not value.isprintable():
        raise ProtocolError(f"{what} must be one plain path segment, not {_shown(value)}")
    if len(value.encode()) > NAME_MAX:
        raise ProtocolError(f"{what} is longer than {NAME_MAX} bytes: {_shown(value)}")
    return value


def parse_file_name(value: object) -> FileName:
    """Take the name of a file in a filemap.

    :raises ProtocolError: it is not one plain path segment.
    """
    return FileName(_parse_segment(value, "file name"))


def parse_build_id(value: object) -> BuildId:
    """Take a build id.

    :raises ProtocolError: it is not one plain path segment.
    """
    return BuildId(_parse_segment(value, "build id"))


def parse_cause(value: object) -> Cause | None:
    """Take the cause of a failure. A word that is not known here, as a newer daemon may have it, is none."""
    return next((cause for cause in Cause if cause == value), None)


def parse_filemap(value: object) -> dict[FileName, Sha1]:
    """Take a struct of file name to SHA-1.

    :raises ProtocolError: it is no struct, or a name or a sum in it is bad.
    """
    if not isinstance(value, Mapping):
        raise ProtocolError(f"filemap must be a struct, not {_shown(value)}")
    return {parse_file_name(name): parse_sha1(sha1) for name, sha1 in value.items()}


def parse_architecture(value: object) -> str:
    """Take the name of a Debian architecture, such as ``amd64``.

    :raises ProtocolError: it cannot be one.
    """
    if isinstance(value, str) and _ARCHITECTURE.fullmatch(value):
        return value
    raise ProtocolError(f"not an architecture: {_shown(value)}")


def parse_suite(value: object, what: str = "suite") -> str:
    """Take the name of a suite or a series, such as ``bookworm-updates``.

    :raises ProtocolError: it cannot be one.
    """
    if isinstance(value, str) and _SUITE.fullmatch(value):
        return value
    raise ProtocolError(f"not a {what}: {_shown(value)}")


@dataclass(frozen=True)
class BinaryPackageArguments:
    """The arguments of a `binarypackage` build. Units and defaults: docs/protocol.md."""

    arch_tag: str
    series: str
    suite: str
    arch_indep: bool = False
    archives: tuple[str, ...] = ()  # Complete sources.list lines; none: the chroot's own.
    trusted_keys: tuple[str, ...] = ()  # base64 of OpenPGP public keys.
    archive_private: bool = False
    archive_purpose: str = ""
    ogrecomponent: str = ""
    build_debug_symbols: bool = False
    build_url: str = ""
    builder_constraints: tuple[str, ...] = ()
    fast_cleanup: bool = False
    image_type: str = "chroot"
    package_builder: PackageBuilderName | None = None  # Ours alone, as all that follows; None: the daemon's choice.
    host_architecture: str = ""  # To build for; another than arch_tag is cross-built.
    build_profiles: tuple[str, ...] = ()
    build_options: tuple[str, ...] = ()  # Words of DEB_BUILD_OPTIONS.
    binnmu: "BinNmu | None" = None
    source_date_epoch: int | None = None  # Seconds since 1970.
    package_versions: tuple[str, ...] = ()  # NAME=VERSION or NAME:ARCHITECTURE=VERSION: where there are these.

    def to_wire(self) -> dict[str, Any]:
        """The struct that build() takes; what has no value is left out."""
        wire: dict[str, Any] = {}
        for name, value in vars(self).items():
            if isinstance(value, BinNmu):
                wire[name] = asdict(value)
            elif value not in (None, "", ()):
                wire[name] = list(value) if isinstance(value, tuple) else value
        return wire


@dataclass(frozen=True)
class BinNmu:
    """Packages built anew from a source that has not changed, under a version of their own."""

    number: int  # The version ends with +bNUMBER.
    changelog: str  # Why; one line.
    maintainer: str  # Who signs the entry: NAME <ADDRESS>.


def parse_binarypackage_arguments(value: object, own_architecture: str) -> BinaryPackageArguments:
    """Take the `args` struct of a build of type `binarypackage`. Unknown keys are ignored.

    :param own_architecture: what `arch_tag` is when it is absent.
    :raises ProtocolError: a value has the wrong type or form; series or suite is missing.
    """
    if not isinstance(value, Mapping):
        raise ProtocolError(f"args must be a struct, not {_shown(value)}")
    arguments = _Struct(value)
    image_type = arguments.text("image_type") or "chroot"
    if image_type != "chroot":
        raise ProtocolError(f"image_type {_shown(image_type)} is not supported here: send a chroot")
    binnmu = _parse_binnmu(value.get("binnmu"))
    if binnmu and value.get("arch_indep"):
        raise ProtocolError("a binNMU is of one architecture: arch_indep is not possible with it")
    return BinaryPackageArguments(
        arch_tag=parse_architecture(value.get("arch_tag") or own_architecture),
        series=parse_suite(value.get("series"), "series"),
        suite=parse_suite(value.get("suite")),
        arch_indep=arguments.flag("arch_indep"),
        archives=arguments.lines("archives"),
        trusted_keys=arguments.lines("trusted_keys"),
        archive_private=arguments.flag("archive_private"),
        archive_purpose=arguments.text("archive_purpose"),
        ogrecomponent=arguments.text("ogrecomponent"),
        build_debug_symbols=arguments.flag("build_debug_symbols"),
        build_url=arguments.text("build_url"),
        builder_constraints=arguments.lines("builder_constraints"),
        fast_cleanup=arguments.flag("fast_cleanup"),
        image_type=image_type,
        package_builder=arguments.package_builder("package_builder"),
        host_architecture=parse_architecture(value["host_architecture"]) if value.get("host_architecture") else "",
        build_profiles=arguments.words("build_profiles", _PROFILE),
        build_options=arguments.words("build_options", _BUILD_OPTION),
        binnmu=binnmu,
        source_date_epoch=arguments.number("source_date_epoch"),
        package_versions=arguments.words("package_versions", _PACKAGE_VERSION),
    )


def _parse_binnmu(value: object) -> BinNmu | None:
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise ProtocolError(f"binnmu must be a struct, not {_shown(value)}")
    struct = _Struct(value)
    try:
        number, changelog, maintainer = struct.number("number"), struct.text("changelog"), struct.text("maintainer")
    except ProtocolError as exc:
        raise ProtocolError(f"binnmu: {exc}") from exc
    if not number or number > _BINNMU_MAX:
        raise ProtocolError(f"binnmu: number must be from 1 to {_BINNMU_MAX}, not {_shown(value.get('number'))}")
    if not changelog.strip():
        raise ProtocolError("binnmu: changelog is empty")
    if not _MAINTAINER.fullmatch(maintainer):
        raise ProtocolError(f"binnmu: maintainer is not NAME <ADDRESS>: {_shown(maintainer)}")
    return BinNmu(number, changelog.strip(), maintainer)


def parse_fast_cleanup(arguments: Mapping[str, object]) -> bool:
    """Take `fast_cleanup`, which matters to the daemon itself, whatever the build type.

    :raises ProtocolError: it is no boolean.
    """
    return _Struct(arguments).flag("fast_cleanup")


@dataclass(frozen=True)
class _Struct:
    """Typed access to an argument struct; nil and an absent key are the same."""

    values: Mapping[Any, object] = field(repr=False)

    def flag(self, key: str) -> bool:
        value = self.values.get(key)
        if value is None or isinstance(value, bool):
            return bool(value)
        if value in (0, 1):  # Older masters send integers.
            return bool(value)
        raise ProtocolError(f"{key} must be a boolean, not {_shown(value)}")

    def text(self, key: str) -> str:
        value = self.values.get(key)
        if value is None:
            return ""
        if not isinstance(value, str) or not value.isprintable():
            raise ProtocolError(f"{key} must be one line of text, not {_shown(value)}")
        return value

    def package_builder(self, key: str) -> PackageBuilderName | None:
        name = self.text(key)
        try:
            return PackageBuilderName(name) if name else None
        except ValueError:
            raise ProtocolError(f"{key} is one of {', '.join(PackageBuilderName)}, not {_shown(name)}") from None

    def number(self, key: str) -> int | None:
        """A whole number from 0; in digits where XML-RPC's integers are too small."""
        value = self.values.get(key)
        if value is None or value == "":
            return None
        if isinstance(value, str) and _DIGITS.fullmatch(value):
            return int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**_DIGITS_MAX:
            raise ProtocolError(f"{key} must be a whole number, not {_shown(value)}")
        return value

    def words(self, key: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
        for word in (words := self.lines(key)):
            if not pattern.fullmatch(word):
                raise ProtocolError(f"{key}: not a word that can stand there: {_shown(word)}")
        return words

    def lines(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key)
        if value is None:
            return ()
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ProtocolError(f"{key} must be an array of strings, not {_shown(value)}")
        for number, line in enumerate(value):
            shown = f"what item {number} is" if key == "archives" else _shown(line)  # There may be a password in it.
            if not isinstance(line, str) or not line.replace("\n", "").isprintable():
                raise ProtocolError(f"{key} must hold lines of text, not {shown}")
            if "\n" in line.strip() and key != "trusted_keys":
                raise ProtocolError(f"{key} must hold single lines, not {shown}")
        return tuple(line.strip() for line in value)


def _shown(value: object) -> str:
    """A value as an error message shows it: quoted, and cut where it is long, before that costs anything."""
    if isinstance(value, str | bytes):
        text = repr(value[:_SHOWN_MAX])
        return text if len(value) <= _SHOWN_MAX and len(text) <= _SHOWN_MAX else text[: _SHOWN_MAX - 3] + "..."
    if value is None or isinstance(value, float) or (isinstance(value, int) and value.bit_length() <= 64):
        return repr(value)
    if isinstance(value, Mapping):
        return "a struct"
    if isinstance(value, Sequence):
        return "an array"
    return f"a value of type {type(value).__name__}"
