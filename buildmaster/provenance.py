"""What is said of where files come from: in-toto statements with SLSA v1 provenance, made and read. Pure.

The terms are in docs/provenance.md. One build gives the same bytes each time, so that a statement that was lost is made
again.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from buildd.control import Installed

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "urn:debfarm:debian-package-build:v1"  # docs/provenance.md says what its parameters are.

_MOST_BYTES = 16 << 20


class Malformed(ValueError):
    """What should be a statement of provenance is none; the message says why."""


@dataclass(frozen=True)
class Digested:
    """A file by name and SHA-256."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Made:
    """A build that ended well: what went in, and what came out."""

    build_id: int
    source: str
    version: str
    dsc: str  # The name of that among the sources.
    distribution: str
    archive: str
    series: str
    pocket: str
    component: str
    architecture: str
    arch_indep: bool  # With the packages for all architectures.
    wishes: Mapping[str, object]  # How it was to be done, as Wishes has it; what was not said is not there.
    sources: Sequence[Digested]
    chroot: str  # The SHA-256 of the tarball; "": nobody has recorded that.
    installed: Sequence[Installed]  # From the .buildinfo.
    results: Sequence[Digested]
    log: Digested | None  # Gzipped, as the store has it.
    builder: str
    builder_version: str
    started_at: str  # RFC 3339.
    finished_at: str


@dataclass(frozen=True)
class Told:
    """What a statement says, as far as people ask for it."""

    files: Mapping[str, str]  # SHA-256 by name.
    source: str
    version: str
    dsc: Digested
    place: str  # Distribution, series, pocket, archive and architecture, in words.
    farm: str
    builder: str
    build: str  # What the farm calls it.
    started_at: str
    finished_at: str
    chroot: str
    packages: tuple[str, ...] = field(default=())  # purls of what was installed.


def farm_uri(key_id: str) -> str:
    """What a farm is called in statements: by its first key, which it keeps whatever it signs with later on."""
    return f"urn:debfarm:farm:{key_id}"


def statement(made: Made, farm: str, master_version: str) -> bytes:
    """The statement about a build.

    :param farm: as farm_uri() gives it.
    """
    digests = {file.name: file.sha256 for file in made.sources}
    external = {
        "source": {"name": made.source, "version": made.version, "dsc": _file(made.dsc, digests.get(made.dsc, ""))},
        "architecture": made.architecture,
        "architectureIndependent": made.arch_indep,
        "wishes": dict(made.wishes),
        **{name: getattr(made, name) for name in ("distribution", "archive", "series", "pocket", "component")},
    }
    run = {
        "builder": {"id": farm, "version": {"buildmaster": master_version, "builder": made.builder_version}},
        "metadata": {
            "invocationId": f"{farm}:build:{made.build_id}",
            "startedOn": made.started_at,
            "finishedOn": made.finished_at,
        },
        "byproducts": [] if made.log is None else [_file(made.log.name, made.log.sha256)],
    }
    definition = {
        "buildType": BUILD_TYPE,
        "externalParameters": external,
        "internalParameters": {"builder": made.builder},
        "resolvedDependencies": list(_dependencies(made)),
    }
    return _canonical(
        {
            "_type": STATEMENT_TYPE,
            "subject": [_file(file.name, file.sha256) for file in sorted(made.results, key=lambda file: file.name)],
            "predicateType": PREDICATE_TYPE,
            "predicate": {"buildDefinition": definition, "runDetails": run},
        }
    )


def purl(distribution: str, package: Installed) -> str:
    """A binary package by name and version, as package-url has them for Debian's."""
    architecture = f"?arch={quote(package.architecture, safe='')}" if package.architecture else ""
    name, version = quote(package.name, safe=""), quote(package.version, safe=":~")
    return f"pkg:deb/{quote(distribution, safe='')}/{name}@{version}{architecture}"


def _dependencies(made: Made) -> Iterable[dict[str, object]]:
    for file in sorted(made.sources, key=lambda file: file.name):
        yield _file(file.name, file.sha256) | {"annotations": {"role": "source"}}
    if made.chroot:
        yield _file("chroot", made.chroot) | {"annotations": {"role": "chroot"}}
    for package in made.installed:
        yield {"uri": purl(made.distribution, package), "annotations": {"role": "installed"}}


def _file(name: str, sha256: str) -> dict[str, object]:
    return {"name": name, "digest": {"sha256": sha256}}


def _canonical(document: object) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def parse(content: bytes) -> Told:
    """Read a statement, which is a stranger's until its signature has been looked at.

    :raises Malformed: it is none of ours.
    """
    document = parse_json(content)
    for key, wanted in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        if _at(document, key) != wanted:
            raise Malformed(f"its {key} is not {wanted}, but {str(_at(document, key))[:80]!r}")
    if (kind := _at(document, "predicate", "buildDefinition", "buildType")) != BUILD_TYPE:
        raise Malformed(f"it is of another kind of build: {str(kind)[:80]!r}")
    external = _at(document, "predicate", "buildDefinition", "externalParameters")
    dependencies = _listed(_at(document, "predicate", "buildDefinition", "resolvedDependencies"))
    details = _at(document, "predicate", "runDetails")
    words = [_word(external, name) for name in ("distribution", "series", "pocket", "archive", "architecture")]
    roles = [(str(each.get("annotations", {}).get("role")), each) for each in dependencies]
    return Told(
        files=dict(_digested(each) for each in _listed(_at(document, "subject"))),
        source=_word(external, "source", "name"),
        version=_word(external, "source", "version"),
        dsc=Digested(*_digested(_at(external, "source", "dsc"))),
        place=f"{words[0]} {words[1]} ({words[2].lower()}), archive {words[3]}, {words[4]}",
        farm=_word(details, "builder", "id"),
        builder=_word(document, "predicate", "buildDefinition", "internalParameters", "builder"),
        build=_word(details, "metadata", "invocationId").rpartition(":")[2],
        started_at=_word(details, "metadata", "startedOn"),
        finished_at=_word(details, "metadata", "finishedOn"),
        chroot=next((_digested(each)[1] for role, each in roles if role == "chroot"), ""),
        packages=tuple(_word(each, "uri") for role, each in roles if role == "installed"),
    )


def parse_json(content: bytes) -> Any:
    """Take a JSON document that may be anybody's.

    :raises Malformed: it is none, or longer than anything that we make.
    """
    if len(content) > _MOST_BYTES:
        raise Malformed(f"it is longer than {_MOST_BYTES} bytes")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"it is no JSON document: {error}") from error


def _at(document: Any, *path: str) -> Any:
    for key in path:
        if not isinstance(document, dict) or key not in document:
            raise Malformed(f"it has no {key}")
        document = document[key]
    return document


def _word(document: Any, *path: str) -> str:
    value = _at(document, *path)
    if not isinstance(value, str):
        raise Malformed(f"its {path[-1]} is no text")
    return value


def _listed(value: Any) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Malformed("what should be a list of files is none")
    if not all(isinstance(each.get("annotations", {}), dict) for each in value):
        raise Malformed("annotations are no object")
    return value


def _digested(value: Any) -> tuple[str, str]:
    return _word(value, "name"), _word(value, "digest", "sha256")
