"""What is to be built, and from what: a request for a `binarypackage`, parsed once."""

from collections.abc import Mapping
from dataclasses import dataclass

from buildd import apt, dpkg
from buildd.control import ControlError, Dsc, check_source, parse_dsc
from buildd.managers.base import BuildRequest
from buildd.protocol import (
    BinaryPackageArguments,
    FileName,
    ProtocolError,
    parse_binarypackage_arguments,
)
from buildd.reach import Reach, Refused, archive_urls
from buildd.relations import Alternatives


@dataclass(frozen=True)
class Plan:
    """A request whose arguments and control data were found good."""

    arguments: BinaryPackageArguments
    dsc_name: FileName
    dsc: Dsc
    wanted: tuple[Alternatives, ...]  # Build-dependencies that apply.
    unwanted: tuple[Alternatives, ...]  # Build-conflicts that apply.
    dependency_dsc: str  # What apt is asked to install.
    key_files: Mapping[str, bytes]  # For trusted.gpg.d.
    sources: tuple[str, ...]  # Lines for sources.list; none: the chroot's own.
    auth_conf: str  # The credentials for them.


def make_plan(request: BuildRequest, architecture: str) -> Plan:
    """Parse a request, and read every file once: digests in the .dsc are compared. Blocks.

    :param architecture: the daemon's own.
    :raises ProtocolError: it cannot be built from; the message says why.
    """
    arguments = parse_binarypackage_arguments(request.arguments, architecture)
    key_files = apt.key_files(arguments.trusted_keys)
    sources, auth_conf = apt.split_credentials(arguments.archives)
    try:
        Reach.of(archive_urls(sources))
    except Refused as exc:
        raise ProtocolError(f"archives: {exc.why}") from exc  # What was asked for may have a password in it.
    names = [name for name in request.files if name.endswith(".dsc")]
    if len(names) != 1:
        raise ProtocolError(f"filemap must name one .dsc, not {len(names)}")
    dsc_name = names[0]
    try:
        dsc = parse_dsc(request.files[dsc_name])
        check_source(dsc_name, dsc, request.files)
        wanted = apt.build_depends(dsc, arguments)
        unwanted = apt.build_conflicts(dsc, arguments)
    except ControlError as exc:
        raise ProtocolError(str(exc)) from exc
    return Plan(
        arguments=arguments,
        dsc_name=dsc_name,
        dsc=dsc,
        wanted=wanted,
        unwanted=unwanted,
        dependency_dsc=apt.dependency_dsc(dsc, wanted, unwanted, dpkg.cross_for(arguments)),
        key_files=key_files,
        sources=sources,
        auth_conf=auth_conf,
    )
