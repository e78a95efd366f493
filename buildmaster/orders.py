"""What a builder is told to build: everything that dispatch sends, from the rows of one build."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection, bindparam, select

from buildd.protocol import BinaryPackageArguments, BuildId, FileName, PackageBuilderName, Sha1
from buildmaster import builds, chroots, depwaits, files, needs, offered
from buildmaster.apt_sources import Login, Sources
from buildmaster.pockets import suite_name
from buildmaster.scoring import Pocket
from buildmaster.store import Sha256, StoredFile
from buildmaster.tables import archive, build, source, source_file, stored_file
from buildmaster.wishes import Wishes

BUILD_TYPE = "binarypackage"


@dataclass(frozen=True)
class BuildOrder:
    """One build, as dispatch sends it."""

    build_id: int
    cookie: BuildId
    title: str
    chroot: StoredFile | None  # None: there is none.
    chroot_name: str
    files: Mapping[FileName, StoredFile]  # The .dsc and what it names.
    arguments: BinaryPackageArguments  # But for the lines of its archives, which
    sources: Sources  # make.
    limits: Mapping[str, int]  # What it may use, of the things that docs/limits.md has.

    def to_send(self) -> list[tuple[str, StoredFile]]:
        """The names and files that the builder needs; the chroot, which there must be, first."""
        assert self.chroot is not None
        return [(self.chroot_name, self.chroot), *self.files.items()]

    def wire_arguments(self, archives_url: str = "", login: Login | None = None) -> dict[str, object]:
        """The struct of arguments that build() takes. XML-RPC's integers are too small for a limit: its digits.

        :param archives_url: where the archives are that we publish, and
        :param login: what private ones of them are read with: the struct has passwords in it then.
        """
        limits = {name: str(value) for name, value in self.limits.items()}
        arguments = replace(self.arguments, archives=self.sources.at(archives_url, login))
        return arguments.to_wire() | ({"limits": limits} if limits else {})


def find(connection: Connection, build_id: int) -> BuildOrder:
    """The order for a build.

    :raises NoSuchBuild: there is none.
    """
    row = connection.execute(_QUERY, {"this": build_id}).first()
    if row is None:
        raise builds.NoSuchBuild(build_id)
    chroot = chroots.find(connection, row.series_architecture_id, Pocket(row.pocket))
    repeated = None if row.reproduces_id is None else files.by_sha256(connection, row.chroot_sha256)
    wishes = Wishes.from_text(row.wishes)
    chroot_file = repeated or (None if chroot is None else chroot.file)
    sources = offered.sources(connection, row.archive_id, row.series_name, Pocket(row.pocket))
    if sources.suites and not sources.lines and chroot_file is not None:
        sources = sources.complete(depwaits.own_sources(connection, chroot_file.sha256))
    if wishes.archive_lines:
        sources = Sources(lines=wishes.archive_lines, keys=sources.keys)
    elif wishes.snapshots:
        sources = sources.as_in(wishes.snapshots)
    return BuildOrder(
        build_id=build_id,
        cookie=builds.cookie(build_id),
        title=builds.title_of(row),
        chroot=chroot_file,
        chroot_name="" if chroot is None else chroot.name,
        files=_source_files(connection, row.source_id),
        arguments=_arguments(row, wishes, sources.keys),
        sources=sources,
        limits=wishes.limits,
    )


_QUERY = (
    select(
        build.c.source_id,
        build.c.arch_indep,
        build.c.wishes,
        build.c.reproduces_id,
        build.c.chroot_sha256,
        *needs.COLUMNS,
        build.c.series_architecture_id,
        archive.c.purpose,
        archive.c.private,
        archive.c.id.label("archive_id"),
        source.c.component,
        *builds.DESCRIPTION,
    )
    .select_from(needs.joined(builds.DESCRIBED))
    .where(build.c.id == bindparam("this"))
)


def _source_files(connection: Connection, source_id: int) -> dict[FileName, StoredFile]:
    rows = connection.execute(_FILES, {"this": source_id})
    return {FileName(row.name): StoredFile(Sha256(row.sha256), Sha1(row.sha1), row.size) for row in rows}


_FILES = (
    select(source_file.c.name, stored_file)
    .select_from(source_file.join(stored_file, stored_file.c.id == source_file.c.stored_file_id))
    .where(source_file.c.source_id == bindparam("this"))
    .order_by(source_file.c.name)
)


def _arguments(row: builds.AnyRow, wishes: Wishes, keys: tuple[str, ...]) -> BinaryPackageArguments:
    return BinaryPackageArguments(
        arch_tag=row.architecture,
        arch_indep=row.arch_indep,
        series=row.series_name,
        suite=suite_name(row.series_name, Pocket(row.pocket)),
        trusted_keys=keys,
        archive_private=row.private,
        archive_purpose=row.purpose,
        ogrecomponent=row.component,
        builder_constraints=tuple(needs.tags_of(row).split()),
        package_builder=PackageBuilderName(wishes.package_builder) if wishes.package_builder else None,
        build_profiles=wishes.profiles,
        build_options=wishes.options,
        binnmu=wishes.binnmu,
        source_date_epoch=wishes.source_date_epoch,
        package_versions=wishes.versions,
        build_debug_symbols=True,  # As sbuild alone does it.
    )
