"""The JSON that commands print. Its keys are promised in docs/cli.md: add some, but rename or remove none."""

from buildd.protocol import BinNmu
from buildmaster.chroots import Set
from buildmaster.cli.text import stamp
from buildmaster.listings import Build, Builder, File, Place
from buildmaster.masters import Master
from buildmaster.waiting import Waiting


def build_document(build: Build) -> dict[str, object]:
    """A build, as every command shows it."""
    return {
        "id": build.id,
        "source": build.source,
        "version": build.version,
        "distribution": build.distribution,
        "series": build.series,
        "architecture": build.architecture,
        "archive": build.archive,
        "arch_indep": build.arch_indep,
        "state": build.state.value,
        "ended": build.has_ended,
        "reason": build.reason,
        "dependencies": build.dependencies,
        "cause": build.cause,
        "error": build.error,
        "builder": build.builder,
        "stage": build.stage,
        "score": build.score,
        "failures": build.failures,
        "tags": build.tags.split(),
        "package_builder": build.wishes.package_builder,
        "profiles": build.wishes.profiles,
        "build_options": build.wishes.options,
        "limits": dict(build.wishes.limits),
        "rebuild": None if build.wishes.binnmu is None else _rebuild(build.wishes.binnmu),
        "created": stamp(build.created_at),
        "queued": stamp(build.queued_at),
        "started": stamp(build.started_at),
        "finished": stamp(build.finished_at),
        "reproduces": build.reproduces,
        "chroot_sha256": build.chroot_sha256,
        "log": {"name": build.log_name, "sha256": build.log_sha256} if build.log_sha256 else None,
    }


def _rebuild(binnmu: BinNmu) -> dict[str, object]:
    return {"number": binnmu.number, "reason": binnmu.changelog, "maintainer": binnmu.maintainer}


def waiting_document(waiting: Waiting) -> dict[str, object]:
    """A build that waits, with its place."""
    return {"position": waiting.position, "why": waiting.why, "build": build_document(waiting.build)}


def builder_document(builder: Builder) -> dict[str, object]:
    """A builder."""
    return {
        "name": builder.name,
        "url": builder.url,
        "architecture": builder.architecture,
        "state": builder.state,
        "reason": builder.reason,
        "manual": builder.manual,
        "given": builder.given,
        "virtualised": builder.virtualised,
        "tags": builder.tags.split(),
        "restricted_tags": builder.restricted_tags.split(),
        "vm_host": builder.vm_host,
        "build": builder.build_id,
        "stage": builder.stage,
        "version": builder.version,
        "failures": builder.failures,
        "master": builder.master,
        "trouble": builder.trouble,
        "trouble_since": stamp(builder.trouble_since),
    }


def master_document(master: Master) -> dict[str, object]:
    """A master."""
    return {
        "id": master.id,
        "name": master.name,
        "state": "silent" if master.is_silent else "runs",
        "since": stamp(master.since),
        "heard": stamp(master.heard_at),
        "builders": master.builders,
    }


def file_document(file: File) -> dict[str, object]:
    """A file in the store."""
    return {"name": file.name, "size": file.size, "sha256": file.sha256, "sha1": file.sha1}


def chroot_document(chroot: Set) -> dict[str, object]:
    """A chroot where it is set."""
    return {
        "distribution": chroot.distribution,
        "series": chroot.series,
        "architecture": chroot.architecture,
        "pocket": chroot.pocket.lower(),
        "name": chroot.name,
        "size": chroot.size,
        "sha256": chroot.sha256,
        "added": stamp(chroot.set_at),
    }


def place_document(place: Place) -> dict[str, object]:
    """An architecture of a series."""
    return {
        "distribution": place.distribution,
        "series": place.series,
        "architecture": place.architecture,
        "chroot_sha256": place.chroot_sha256,
        "nominated": place.nominated,
    }
