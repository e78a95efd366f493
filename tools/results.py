"""What a build made, once it has been fetched: digests checked, and what the log tells of times."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from debian.deb822 import BuildInfo, Changes

_COMPILED = re.compile(rb"^Build-Time: (\d+)$", re.MULTILINE)  # In sbuild's summary, at the end of its log.
_SUMMARY_BYTES = 65536


class BadResults(Exception):
    """The files that a build made are not what its .changes says; each mistake is a line."""


@dataclass(frozen=True)
class Results:
    """The files of one build."""

    files: tuple[Path, ...]
    log: Path | None

    @property
    def shown(self) -> list[Path]:
        """In the order in which a person asks for them: packages, then what describes them, then the log."""
        order = (".deb", ".udeb", ".changes", ".buildinfo")
        files = sorted(self.files, key=lambda path: (order.index(path.suffix) if path.suffix in order else 9, path))
        return [*files, *([self.log] if self.log else [])]

    def compile_s(self) -> int | None:
        """How long dpkg-buildpackage ran, as sbuild says in the log."""
        if self.log is None:
            return None
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _SUMMARY_BYTES))
            found = _COMPILED.findall(file.read())
        return int(found[-1]) if found else None


def check_results(results: Results) -> int:
    """Check each file against .changes and .buildinfo; return how many were checked.

    :raises BadResults: one differs, or is missing; there is no .changes or .deb; or it names another file.
    """
    by_name = {path.name: path for path in results.files}
    changes = [path for path in results.files if path.suffix == ".changes"]
    if len(changes) != 1 or not any(path.suffix == ".deb" for path in results.files):
        raise BadResults(f"one .changes and at least one .deb are wanted, not {', '.join(by_name) or 'nothing'}")
    listed = _listed(changes[0])
    mistakes = [f"{name}: {changes[0].name} does not name it" for name in by_name.keys() - listed - {changes[0].name}]
    for describing in (path for path in results.files if path.suffix in (".changes", ".buildinfo")):
        mistakes += _differences(describing, by_name)
    if mistakes:
        raise BadResults("\n".join(mistakes))
    return len(by_name)


def _listed(describing: Path) -> set[str]:
    return {name for name, _, _ in _checksums(describing)}


def _differences(describing: Path, by_name: dict[str, Path]) -> list[str]:
    mistakes = []
    for name, size, sha256 in _checksums(describing):
        if name not in by_name:
            mistakes.append(f"{name}: {describing.name} names it, but it is not there")
            continue
        with by_name[name].open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256 or by_name[name].stat().st_size != size:
            mistakes.append(f"{name}: its content is not what {describing.name} says")
    return mistakes


def _checksums(describing: Path) -> list[tuple[str, int, str]]:
    """Name, size and SHA-256 of each file that a .changes or .buildinfo lists."""
    kind = Changes if describing.suffix == ".changes" else BuildInfo
    with describing.open("rb") as file:
        paragraph = kind(file)
    return [(row["name"], int(row["size"]), row["sha256"]) for row in paragraph["Checksums-Sha256"]]
