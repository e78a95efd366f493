"""What apt is asked in the root of a build, and what its answers mean. Pure.

apt's exit status says whether it did what it was asked (100: it did not, apt-get(8)); its words are read only then, to
tell an archive that did not answer from one that will never do.
"""

import base64
import binascii
import re
from collections.abc import Iterable

from buildd.control import Dsc
from buildd.protocol import ProtocolError
from buildd.relations import Alternatives, first_alternatives, parse_relations, show_relations

UPDATE = ("apt-get", "-q", "update")
UPGRADE = ("apt-get", "-q", "-y", "dist-upgrade")
# Prints a digest of all that apt knows of its archives.
STATE = (
    "sh",
    "-c",
    "cd /var/lib/apt/lists && find . -maxdepth 1 -type f ! -name lock | sort | xargs sha256sum | sha256sum",
)
DUMP_AVAILABLE = ("sh", "-c", "apt-cache dumpavail | grep -E '^(Package|Version|Provides):|^$'")

CONFIGURATION = """\
# Root inside is one unprivileged user's; apt's own user would gain nothing, and could not read our files.
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Dpkg::Use-Pty "false";
DPkg::Options { "--force-confold"; "--force-unsafe-io"; };
"""

_TRANSIENT = re.compile(
    r"Could not connect|Unable to connect|Connection (?:failed|timed out|refused|reset)|Cannot initiate the connection"
    r"|Could not resolve|Temporary failure|Network is unreachable|No route to host"
    r"|Error reading from server|Undetermined Error|Bad header line|Hash Sum mismatch|File has unexpected size"
    r"|\b50[0-9] +[A-Z]|Mirror sync in progress",
)


def build_dep(dsc_path: str, *, simulate: bool = False) -> tuple[str, ...]:
    """The command that installs the build-dependencies of a .dsc, or only works out which those are."""
    return ("apt-get", "-q", *(("--simulate",) if simulate else ()), "build-dep", dsc_path)


def did_not_answer(output: str) -> bool:
    """Whether a failed apt says that an archive could not be reached, or was caught in mid-change."""
    return bool(_TRANSIENT.search(output))


def build_depends(dsc: Dsc, architecture: str, arch_indep: bool) -> tuple[Alternatives, ...]:
    """What a source needs to be built, reduced as sbuild reduces it (Debian Policy 7.7)."""
    return first_alternatives(_fields(dsc, "Build-Depends", architecture, arch_indep))


def build_conflicts(dsc: Dsc, architecture: str, arch_indep: bool) -> tuple[Alternatives, ...]:
    """What must not be installed while a source is built."""
    return _fields(dsc, "Build-Conflicts", architecture, arch_indep)


def dependency_dsc(dsc: Dsc, wanted: Iterable[Alternatives], unwanted: Iterable[Alternatives]) -> str:
    """A .dsc that asks for just these; apt-get build-dep takes it, in any release since Debian 9.

    fakeroot comes along since dpkg-buildpackage may need it (Rules-Requires-Root).
    """
    lines = [
        "Format: 1.0",
        f"Source: {dsc.source}",
        f"Version: {dsc.version}",
        "Architecture: any",
        "Maintainer: nobody <nobody@localhost>",
        f"Build-Depends: {show_relations([*wanted, *parse_relations('fakeroot')])}",
    ]
    conflicts = show_relations(unwanted)
    return "\n".join([*lines, *([f"Build-Conflicts: {conflicts}"] if conflicts else []), ""])


def key_files(trusted_keys: Iterable[str]) -> dict[str, bytes]:
    """File names and contents for trusted.gpg.d, from the base64 of OpenPGP public keys, armored or not.

    :raises ProtocolError: one is not base64.
    """
    files = {}
    for number, encoded in enumerate(trusted_keys):
        try:
            key = base64.b64decode("".join(encoded.split()), validate=True)
        except binascii.Error as exc:
            raise ProtocolError(f"trusted_keys: item {number} is not base64") from exc
        kind = "asc" if key.lstrip().startswith(b"-----BEGIN PGP") else "gpg"
        files[f"debfarm-{number}.{kind}"] = key
    return files


def _fields(dsc: Dsc, name: str, architecture: str, arch_indep: bool) -> tuple[Alternatives, ...]:
    """A field and its -Arch and -Indep forms, as far as they apply."""
    names = [name, f"{name}-Arch", *([f"{name}-Indep"] if arch_indep else [])]
    return tuple(clause for one in names for clause in parse_relations(dsc.field(one), architecture))
