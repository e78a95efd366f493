"""Whether a build's results are what they must be: exactly the files that its .changes names, with its sums."""

from collections.abc import Mapping
from pathlib import PurePath

from buildd.control import CONTROL_MAX_BYTES, Changes, ControlError, parse_changes
from buildd.protocol import FileName
from buildmaster.store import Store, StoredFile


class BadResults(Exception):
    """A build's results do not check; the message says why."""


def check(store: Store, results: Mapping[FileName, StoredFile], source: str, version: str) -> None:
    """Check a build's results against its .changes. Blocks.

    :param results: files by name, in the store already.
    :param source: the name of the source that was built, and
    :param version: its version.
    :raises BadResults: a file is missing, superfluous or another than promised; or it is another source's.
    """
    names = [name for name in results if name.endswith(".changes")]
    if len(names) != 1:
        raise BadResults(f"there must be one .changes file, not {len(names)}")
    changes = _parse(store, names[0], results[names[0]])
    if (changes.source, changes.version) != (source, version):
        raise BadResults(f"{names[0]} is of {changes.source} {changes.version}, not of {source} {version}")
    _compare(names[0], changes, results)


def _parse(store: Store, name: FileName, stored: StoredFile) -> Changes:
    if stored.size > CONTROL_MAX_BYTES:
        raise BadResults(f"{name} is longer than {CONTROL_MAX_BYTES} bytes")
    with store.open(stored.sha256) as stream:
        content = stream.read()
    try:
        return parse_changes(PurePath(name), content)
    except ControlError as error:
        raise BadResults(str(error)) from error


def _compare(name: str, changes: Changes, results: Mapping[FileName, StoredFile]) -> None:
    promised = {file.name: file for file in changes.files}
    missing = promised.keys() - results.keys()
    if missing:
        raise BadResults(f"{name} names files that the builder does not have: {', '.join(sorted(missing))}")
    extra = results.keys() - promised.keys() - {name}
    if extra:
        raise BadResults(f"{name} does not name these files: {', '.join(sorted(extra))}")
    for file in promised.values():
        stored = results[file.name]
        same = (stored.size, stored.sha256) == (file.size, file.sha256) and file.sha1 in (None, stored.sha1)
        if not same:
            raise BadResults(f"{file.name} has not the size and digests that {name} promises")
