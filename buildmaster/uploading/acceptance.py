"""Takes an upload, or refuses it: whole, in one transaction, or not at all.

Everything is judged before anything is stored. What becomes of an upload is written down in the transaction that
accepts it, or in one of its own.
"""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from debian.debian_support import Version
from sqlalchemy import Connection

from buildmaster import packages, uploads
from buildmaster.distributions import NoSuchSeries
from buildmaster.farm import Farm
from buildmaster.packages import SourceRefused
from buildmaster.scoring import URGENCY
from buildmaster.store import Sha256
from buildmaster.tags import TagsRefused
from buildmaster.uploading import rules, signatures
from buildmaster.uploading.arrivals import Received
from buildmaster.uploading.judging import Judgement, judge
from buildmaster.uploading.terms import Terms
from buildmaster.uploads import Place

_PIECE = 1 << 20


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
    if not faults:
        try:
            accepted = _accept(farm, judgement, place, terms, now)
            source = f"{accepted.name} {accepted.version}"
            return Verdict(name, place.words, (), by, source, accepted.build_ids)
        except (SourceRefused, TagsRefused, NoSuchSeries) as error:  # What has come between, in most cases.
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
    """Write down what became of an upload, and for whom: only who has signed it for certain is told."""
    by = judgement.uploader
    words = (judgement.name, judgement.sha256, now)
    who, address = (by.id, signatures.address_of(by.certificate) if tells else "") if by else (None, "")
    uploads.record(
        connection, place.archive_id, *words, uploader_id=who, source_id=source_id, faults=faults, tell=address
    )


def _accept(farm: Farm, judgement: Judgement, place: Place, terms: Terms, now: float) -> packages.Accepted:
    """:raises SourceRefused: it cannot be, since something came between."""
    changes, sources, suite = judgement.changes, judgement.sources, judgement.suite
    assert changes is not None and sources is not None and suite is not None  # The rules ask for them.
    section = rules.sections(changes).get(sources.name, "")

    def also(connection: Connection, source_id: int) -> None:
        _check_again(connection, judgement, place)
        _record(connection, place, judgement, now, source_id=source_id, tells=terms.tells)

    scratch = farm.directory / "uploads" / "new"
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder = Path(tempfile.mkdtemp(prefix="judged-", dir=scratch))
    try:
        return packages.accept(
            farm,
            _lay_out(farm, judgement, folder),
            now,
            distribution=place.distribution,
            series_name=suite[0],
            archive_name=place.name,
            component=rules.component(section),
            urgency=_urgency(changes.fields.get("urgency", "")),
            pocket=suite[1],
            also=also,
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _check_again(connection: Connection, judgement: Judgement, place: Place) -> None:
    """Within the transaction: another upload may have been accepted since this one was judged."""
    assert judgement.changes is not None and judgement.suite is not None
    if uploads.is_accepted(connection, place.archive_id, judgement.sha256):
        raise SourceRefused(f"{judgement.name} was accepted before, as it is: there is nothing to do")
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
