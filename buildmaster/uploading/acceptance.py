"""Takes an upload, or refuses it: whole, in one transaction, or not at all.

Everything is judged before anything is stored. What becomes of an upload is written down in the transaction that
accepts it, or in one of its own.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from debian.debian_support import Version
from sqlalchemy import Connection

from buildd.control import Changes
from buildmaster import engines, entering, holding, packages, publications, uploads
from buildmaster.binaries import Deb
from buildmaster.debs import BadDeb
from buildmaster.distributions import NoSuchSeries
from buildmaster.farm import Farm
from buildmaster.packages import SourceRefused
from buildmaster.scoring import URGENCY
from buildmaster.store import Sha256
from buildmaster.tags import TagsRefused
from buildmaster.uploading import binary_packages, rules, signatures
from buildmaster.uploading.arrivals import Received
from buildmaster.uploading.judging import Judgement, judge
from buildmaster.uploading.terms import Terms
from buildmaster.uploads import Place

_PIECE = 1 << 20
_REMEMBERED_S = 86400.0


@dataclass(frozen=True)
class Verdict:
    """What became of an upload."""

    name: str  # Of the .changes.
    archive: str
    faults: tuple[str, ...]  # (): it was accepted.
    uploader: str  # "": nobody known.
    source: str = ""  # Of an accepted one: "hello 1.0".
    build_ids: tuple[int, ...] = ()

    @property
    def accepted(self) -> bool:
        """Whether it was."""
        return not self.faults

    @property
    def text(self) -> str:
        """For who uploaded it."""
        if self.faults:
            return "\n".join([f"{self.name} is refused by {self.archive}:", *(f"- {each}" for each in self.faults)])
        builds = ", ".join(map(str, self.build_ids)) or "none"
        return f"{self.name} is accepted by {self.archive}: {self.source}; builds: {builds}"


def process(farm: Farm, received: Received, place: Place, terms: Terms, now: float) -> Verdict:
    """Judge an upload, and accept it or refuse it. Blocks.

    :raises OSError: a file cannot be read, or the store is full: nothing has become of it, and it can be tried again.
    """
    name = received.name
    judgement = judge(farm, received, place, terms, now)
    by = judgement.uploader.name if judgement.uploader else ""
    faults = judgement.faults
    if judgement.again:  # Sent by anybody, or left by a master that died: nobody need hear of that.
        return Verdict(name, place.words, faults, by)
    if not faults:
        try:
            source, build_ids = _Acceptance(farm, judgement, place, terms, now).accept()
            return Verdict(name, place.words, (), by, source, build_ids)
        except (SourceRefused, TagsRefused, NoSuchSeries, BadDeb) as error:  # What has come between, in most cases.
            faults = (rules.words(str(error)),)
    farm.write(_record, place, judgement, now, faults=faults, tells=terms.tells)
    return Verdict(name, place.words, faults, by)


def _record(
    connection: Connection,
    place: Place,
    judgement: Judgement,
    now: float,
    *,
    source_id: int | None = None,
    faults: tuple[str, ...] = (),
    tells: bool,
) -> None:
    """Write down what became of an upload, and for whom: only who has signed it for certain is told.

    What is sent again and again, by whomever, is neither written down nor told each time.
    """
    since = now - _REMEMBERED_S
    if faults and uploads.was_refused(connection, place.archive_id, judgement.sha256, faults, since):
        return
    by = judgement.uploader
    words = (judgement.name, judgement.sha256, now)
    who, address = (by.id, signatures.address_of(by.certificate) if tells else "") if by else (None, "")
    uploads.record(
        connection, place.archive_id, *words, uploader_id=who, source_id=source_id, faults=faults, tell=address
    )


@dataclass
class _Acceptance:
    """An upload that is to be accepted."""

    farm: Farm
    judgement: Judgement
    place: Place
    terms: Terms
    now: float
    debs: Sequence[Deb] = ()
    spared: list[int] = field(default_factory=list)  # Builds that need not be, since their packages came.

    def accept(self) -> tuple[str, tuple[int, ...]]:
        """What it is of, and its builds.

        :raises SourceRefused: it cannot be, since something came between.
        """
        changes, judgement = self.judgement.changes, self.judgement
        assert changes is not None
        self.debs = binary_packages.store(self.farm.store, judgement.packages, changes, judgement.files)
        if judgement.source_id is not None:
            self.farm.write(self._finish, judgement.source_id)
            return f"packages of {changes.source} {judgement.packages.source_version}", ()
        accepted = self._accept_source(changes)
        built = tuple(each for each in accepted.build_ids if each not in self.spared)
        return f"{accepted.name} {accepted.version}", built

    def _accept_source(self, changes: Changes) -> packages.Accepted:
        sources, suite = self.judgement.sources, self.judgement.suite
        assert sources is not None and suite is not None  # The rules ask for them.
        section = rules.sections(changes).get(sources.name, "")
        scratch = self.farm.directory / "uploads" / "new"
        scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder = Path(tempfile.mkdtemp(prefix="judged-", dir=scratch))
        try:
            return packages.accept(
                self.farm,
                _lay_out(self.farm, self.judgement, folder),
                self.now,
                distribution=self.place.distribution,
                series_name=suite[0],
                archive_name=self.place.name,
                component=rules.component(section),
                urgency=_urgency(changes.fields.get("urgency", "")),
                pocket=suite[1],
                also=self._finish,
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _finish(self, connection: Connection, source_id: int) -> None:
        """At the end of the transaction that accepts it: its packages, and that it was."""
        _check_again(connection, self.judgement, self.place)
        if self.debs:
            try:
                entering.add_binaries(connection, source_id, None, self.debs, self.now)
                self.spared = uploads.spare_builds(connection, source_id, self._came(connection), self.now)
                holding.look(connection, source_id, self.now)
            except (entering.PoolConflict, uploads.BeingBuilt) as error:
                raise SourceRefused(str(error)) from error
        _record(connection, self.place, self.judgement, self.now, source_id=source_id, tells=self.terms.tells)

    def _came(self, connection: Connection) -> frozenset[str]:
        """The architectures of which packages came, or as if they had; perhaps with `all`."""
        suite = self.judgement.suite
        if self.terms.builds or suite is None:
            return self.judgement.packages.architectures
        return frozenset({*uploads.architectures(connection, self.place, suite[0]), "all"})


def _check_again(connection: Connection, judgement: Judgement, place: Place) -> None:
    """Within the transaction: another upload may have been accepted since this one was judged."""
    assert judgement.changes is not None and judgement.suite is not None
    engines.have_turn(connection, int(judgement.sha256[:15], 16))  # It may have been sent to several archives at once.
    if uploads.accepted_by(connection, judgement.sha256):
        raise SourceRefused(f"{judgement.name} was accepted before, as it is: there is nothing to do")
    if judgement.source_id is not None:  # Packages of what is there already.
        publications.hold_sources(connection, [judgement.source_id])
        if not publications.home(connection, judgement.source_id):
            raise SourceRefused(f"{judgement.changes.source} has just been deleted from {place.words}: so are these")
        return
    source, version = judgement.changes.source, judgement.changes.version
    newest = uploads.had(connection, place.archive_id, source, ()).newest.get(judgement.suite, version)
    if Version(newest) > Version(version):
        raise SourceRefused(f"{source} {newest} was accepted meanwhile, which is newer: give yours a higher version")


def _lay_out(farm: Farm, judgement: Judgement, folder: Path) -> Path:
    """A folder with all files of a source package: what came, and what the archive has. Returns the .dsc in it."""
    sources = judgement.sources
    assert sources is not None
    dsc = folder / sources.name
    dsc.write_bytes(sources.content)
    for listed in sources.dsc.files:
        arrived = judgement.files.get(listed.name)
        if arrived is not None:
            (folder / listed.name).symlink_to(arrived.path.absolute())
            continue
        with farm.store.open(Sha256(listed.sha256)) as there, (folder / listed.name).open("wb") as here:
            shutil.copyfileobj(there, here, _PIECE)
    return dsc


def _urgency(said: str) -> str:
    """The urgency that a .changes asks for; one that there is not is the usual one."""
    word = said.partition(" ")[0].lower()
    return word if word in URGENCY else "medium"
