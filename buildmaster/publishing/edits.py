"""What a plan for a suite comes to in its indices."""

import gzip
import hashlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from buildmaster.domination import ALL, SOURCE
from buildmaster.goods import Goods
from buildmaster.indices import records, stanzas
from buildmaster.indices.records import Edit, IndexKind, IndexName, Record
from buildmaster.indices.stanzas import File, StanzaError
from buildmaster.store import Store, StoredFile
from buildmaster.suites import Plan


class Unlistable(Exception):
    """A package cannot be listed in an index; the message names it, and says why."""

    def __init__(self, goods: Goods, why: Exception) -> None:
        package = goods.publication
        super().__init__(f"{package.name} {package.version} ({package.architecture}): {why}")
        self.publication = package


def edits_of(plan: Plan, store: Store) -> list[Edit]:
    """The edits that bring the indices from what they are to what is planned; also when some are made already.

    :raises Unlistable: a package cannot be listed.
    :raises OSError: the store cannot be used.
    """
    found: dict[tuple[IndexName, bytes], bytes | None] = {}
    for goods in plan.leaves:
        found.update(dict.fromkeys(_keys(goods, plan.architectures)))
    for goods in plan.stays:  # What several packages are described by is listed once.
        for place in _keys(goods, plan.architectures):
            found.pop(place, None)
    for goods in plan.enters:
        for index, record in records_of(goods, plan.architectures, store):
            found[index, record.key] = record.text
    touched = {_in_contents(goods) for goods in (*plan.leaves, *plan.enters) if goods.contents}
    found.update(dict.fromkeys(touched))
    there = [goods for goods in (*plan.enters, *plan.stays) if goods.contents and _in_contents(goods) in touched]
    for index, record in contents_of(there, plan.architectures, store):
        found[index, record.key] = record.text
    return [Edit(index, key, text) for (index, key), text in found.items()]


def records_of(goods: Goods, architectures: Sequence[str], store: Store) -> Iterator[tuple[IndexName, Record]]:
    """What a suite's indices say of a package, but for Contents.

    :raises Unlistable: it cannot be listed.
    :raises OSError: the store cannot be used.
    """
    package, stored = goods.publication, goods.file
    if package.architecture not in (*architectures, ALL, SOURCE):
        raise Unlistable(goods, ValueError(f"the suite has {', '.join(architectures)}"))
    try:
        if package.binary_id is None:
            with store.open(stored.sha256) as stream:
                dsc = stream.read()
            md5 = hashlib.md5(dsc, usedforsecurity=False).hexdigest()
            file = File(goods.path, stored.size, stored.sha256, stored.sha1, md5)
            yield IndexName(package.component, IndexKind.SOURCES), stanzas.sources_record(dsc, file)
            return
        record = stanzas.packages_record(goods.control, File(goods.path, stored.size, stored.sha256))
    except ValueError as error:
        raise Unlistable(goods, error) from error
    for index in _packages(goods, architectures):
        yield index, record
    yield from _translations(goods)


def contents_of(
    every: Iterable[Goods], architectures: Sequence[str], store: Store
) -> Iterator[tuple[IndexName, Record]]:
    """What a suite's Contents say of packages. Of one that is there in several versions they have all files of any.

    :raises OSError: the store cannot be used.
    """
    found: dict[tuple[IndexName, bytes], tuple[Goods, set[bytes]]] = {}
    for goods in every:
        if goods.contents and goods.publication.architecture in (*architectures, ALL):
            _, paths = found.setdefault(_in_contents(goods), (goods, set()))
            paths.update(_paths(goods.contents, store))
    for (index, _), (goods, paths) in found.items():
        for record in stanzas.contents_records(paths, goods.section, goods.publication.name):
            yield index, record


def _keys(goods: Goods, architectures: Sequence[str]) -> Iterable[tuple[IndexName, bytes]]:
    """Under which keys the indices have a package, but for Contents."""
    package = goods.publication
    if package.binary_id is None:
        yield IndexName(package.component, IndexKind.SOURCES), records.sources_key(package.name, package.version)
        return
    key = records.packages_key(package.name, package.version, package.architecture)
    for index in _packages(goods, architectures):
        yield index, key
    for index, translated in _translations(goods):
        yield index, translated.key


def _in_contents(goods: Goods) -> tuple[IndexName, bytes]:
    """Under which key Contents have a binary package."""
    package = goods.publication
    index = IndexName(package.component, IndexKind.CONTENTS, package.architecture)
    return index, records.contents_key(goods.section, package.name)


def _packages(goods: Goods, architectures: Sequence[str]) -> Iterator[IndexName]:
    """The indices that have a binary package."""
    package = goods.publication
    for architecture in architectures if package.architecture == ALL else [package.architecture]:
        yield IndexName(package.component, IndexKind.PACKAGES, architecture)


def _translations(goods: Goods) -> Iterator[tuple[IndexName, Record]]:
    """What is said of a binary package in other languages; nothing, where it cannot be listed."""
    with suppress(StanzaError):
        for language, record in stanzas.translations(goods.control).items():
            yield IndexName(goods.publication.component, IndexKind.TRANSLATION, language), record


def _paths(contents: StoredFile, store: Store) -> list[bytes]:
    """The paths of a package's files."""
    with store.open(contents.sha256) as stream:
        try:
            return gzip.decompress(stream.read()).split(b"\n")[:-1]
        except (zlib.error, EOFError, gzip.BadGzipFile) as error:
            raise OSError(f"the store's file {contents.sha256} is damaged: {error}") from error
