"""What apt is asked in the root of a build, and what its answers mean. Pure.

apt's exit status says whether it did what it was asked (100: it did not, apt-get(8)); its words are read only then, to
tell an archive that did not answer from one that will never do.
"""

import base64
import binascii
import re
import shlex
from collections.abc import Iterable
from urllib.parse import unquote

from buildd import dpkg
from buildd.control import Dsc
from buildd.depwait import COMPLETE, FIELDS
from buildd.isolation.enter import PROXY
from buildd.protocol import BinaryPackageArguments, ProtocolError
from buildd.relations import Alternatives, build_conflicts_of, build_depends_of, parse_relations, show_relations

UPDATE = ("apt-get", "-q", "update")
UPGRADE = ("apt-get", "-q", "-y", "dist-upgrade")
# Prints a digest of all that apt knows of its archives.
STATE = (
    "sh",
    "-c",
    "cd /var/lib/apt/lists && find . -maxdepth 1 -type f ! -name lock | sort | xargs sha256sum | sha256sum",
)
# Prints what `archive_roots` takes. (`apt-get indextargets` knows the URLs themselves, but only of what was fetched
# before; and where something was, it reads all of that first.)
ARCHIVES = ("apt-get", "-q", "update", "--print-uris")
# Prints the lines that depwait.parse_available takes. The last one says that all went well: the shell forgets how
# apt-cache ended.
DUMP_AVAILABLE = (
    "sh",
    "-c",
    f"{{ apt-cache dumpavail && echo '{COMPLETE}'; }} | grep -E '^({FIELDS}):|^$|^{COMPLETE}$'",
)

# Runs a command, and beside it one that is written as the shell has it, whose words are those between two lines.
_ANSWER_BEGINS = "debfarm: what a build needs, as long as nothing is upgraded:"
_ANSWER_ENDS = "debfarm: that is all"
_BESIDE = f"""
sh -c "$1" >/dev/shm/beside 2>/dev/null & beside=$!; shift
"$@"; status=$?
! wait $beside || {{ echo '{_ANSWER_BEGINS}'; cat /dev/shm/beside; echo '{_ANSWER_ENDS}'; }}
exit $status
"""

# apt says so before it calls dpkg. It needs no archive any more then, and packages' scripts write among its words.
_DPKG_BEGINS = "debfarm: dpkg begins"
_CREDENTIALS_FILE = "/dev/shm/debfarm-auth.conf"

CONFIGURATION = f"""\
# Root inside is one unprivileged user's; apt's own user would gain nothing, and could not read our files.
APT::Sandbox::User "root";
APT::Install-Recommends "false";
APT::Get::Assume-Yes "true";
APT::Update::Error-Mode "any";
APT::Keep-Downloaded-Packages "false";
Acquire::Languages "none";
Acquire::AllowReleaseInfoChange "true";
# Where lists are to be had in both: with xz, a quarter smaller, an update takes 1.3 times the processor time.
Acquire::CompressionTypes::Order {{ "gz"; }};
Acquire::http::Proxy "http://{PROXY[0]}:{PROXY[1]}";
Acquire::http::Pipeline-Depth "0";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
Dpkg::Use-Pty "false";
DPkg::Options {{ "--force-confold"; "--force-unsafe-io"; }};
DPkg::Pre-Invoke {{ "rm -f {_CREDENTIALS_FILE}; echo '{_DPKG_BEGINS}'"; }};
"""

# For packages that are to be of certain versions: an upgrade may have to go back to them.
DOWNGRADES = 'APT::Get::allow-downgrades "true";\n'

# Its errors and warnings, each with the indented lines that go on with it.
_COMPLAINT = re.compile(r"^(?:E: |W: |Err:).*(?:\n {2}.*)*", re.MULTILINE)
_TRANSIENT = re.compile(
    r"Could not connect|Unable to connect|Connection (?:failed|timed out|refused|reset)|connection timed out"
    r"|Cannot initiate the connection|Could not resolve|Temporary failure resolving|Network is unreachable"
    r"|No route to host|Error reading from server|Data socket timed out|Undetermined Error|Bad header line"
    r"|Error in the pull function|Hash Sum mismatch|File has unexpected size|Mirror sync in progress"
    r"| {2}(?:408|429|500|502|503|504) "  # "URL  503  Service Unavailable [IP: 127.0.0.1 80]"
    r"|Failed to fetch \S+\.deb {2}4\d\d "  # It lists what it does not give: its lists are new, or are not yet.
)
_IGNORED = re.compile(r"W: (?:Failed to fetch|Some index files failed to download)")
# 'http://deb.debian.org/debian/pool/main/h/hello/hello_2.10-3_amd64.deb' hello_2.10-3_amd64.deb 53084 SHA256:...
_WOULD_FETCH = re.compile(r"'\S+' ([a-z0-9][a-z0-9+.-]*_[^_\s/]+_[a-z0-9-]+)\.deb [0-9]+ \S*")
_CREDENTIALS = re.compile(r"([A-Za-z0-9+.-]+)://([^\s/]*)@([^\s/@]+)(\S*)")
_NOTHING_DONE = re.compile(r"^0 upgraded, 0 newly installed, 0 to remove", re.MULTILINE)
_NO_SPACE = re.compile(r"You don't have enough free space in|No space left on device")


def build_dep(dsc_path: str, *, cross_for: str = "", resolve: bool = False) -> tuple[str, ...]:
    """The command that installs the build-dependencies of a .dsc, or only says which packages those are: `resolved`.

    What installs leaves no cache on disk: each layer would have 36 MB of it. The one that `update` has made is used.
    """
    # It names what it would fetch; so a chroot must seem to have fetched nothing yet.
    only = ("--print-uris", "-o", "Dir::Cache::Archives=/nowhere") if resolve else ("-o", "Dir::Cache::pkgcache=")
    cross = ("--host-architecture", cross_for) if cross_for else ()
    return ("apt-get", "-q", *only, *cross, "build-dep", dsc_path)


def archive_roots(output: str) -> list[str]:
    """The URLs below which a chroot's own archives are, in the order of its sources.

    Of an archive without dists/ that is the whole host: its packages may be beside its index, and apt does not say.
    """
    found = []
    for url in re.findall(r"^'(\S+/)InRelease' ", output, re.MULTILINE):
        root, dists, _ = url.partition("/dists/")
        found.append(f"{root}/" if dists else "/".join([*url.split("/")[:3], ""]))
    return list(dict.fromkeys(found))


def resolved(output: str) -> list[str]:
    """The packages that apt would fetch and install, each as NAME_VERSION_ARCHITECTURE, sorted.

    :raises ValueError: apt did not write what apt writes; the message shows the line.
    """
    packages = []
    for line in output.splitlines():
        if line.startswith("'"):
            if (found := _WOULD_FETCH.fullmatch(line)) is None:
                raise ValueError(f"not a line of apt-get --print-uris: {line[:200]!r}")
            packages.append(unquote(found[1]))
    return sorted(packages)


def beside(command: tuple[str, ...], question: tuple[str, ...]) -> tuple[str, ...]:
    """Two commands at once, as there is more than one processor: one that does, and one that only asks.

    It ends as the first does, and has the other's words after its own: see `answered_beside`.
    """
    return ("sh", "-c", _BESIDE, "sh", shlex.join(question), *command)


def answered_beside(output: str) -> list[str] | None:
    """What apt said that it would install, see `resolved`, beside an upgrade.

    None: the upgrade had something to do, so it may say otherwise now; or it did not say.
    """
    upgrade, _, rest = output.partition(f"{_ANSWER_BEGINS}\n")
    answer, ends, _ = rest.partition(_ANSWER_ENDS)
    if not ends or _DPKG_BEGINS in output or not _NOTHING_DONE.search(upgrade):
        return None
    try:
        return resolved(answer)
    except ValueError:
        return None


def with_credentials(command: tuple[str, ...]) -> tuple[str, ...]:
    """A command of apt's that takes an auth.conf on standard input, and writes its errors among its other words.

    The file is in a tmpfs of this one command's (see isolation/enter.py): it is never on a disk nor in a layer, and
    gone before any package's script runs (CONFIGURATION), for those may be of other archives.
    """
    script = f'umask 077; cat >{_CREDENTIALS_FILE}; exec "$@" </dev/null 2>&1'
    return ("sh", "-c", script, "sh", command[0], "-o", f"Dir::Etc::netrc={_CREDENTIALS_FILE}", *command[1:])


def split_credentials(archives: Iterable[str]) -> tuple[tuple[str, ...], str]:
    """Lines for sources.list without the user:password@ of their URLs, and these as an auth.conf (apt_auth.conf(5)).

    :raises ProtocolError: a user or password cannot be written there.
    """
    lines, entries = [], set()
    for number, line in enumerate(archives):
        if (found := _CREDENTIALS.search(line)) is None:
            lines.append(line)
            continue
        scheme, credentials, host, path = found.groups()
        lines.append(f"{line[: found.start()]}{scheme}://{host}{path}{line[found.end() :]}")
        user, _, password = map(unquote, credentials.partition(":"))
        if not re.fullmatch(r"\S+", user) or not re.fullmatch(r"\S*", password):
            raise ProtocolError(f"archives: apt takes no white space in user and password, as item {number} has it")
        secret = f" password {password}" if password else ""
        # The first entry that matches counts for apt, and matches what begins with it: the longest comes first.
        entries.add(f"machine {scheme}://{host}{path.rstrip('/')}/ login {user}{secret}\n")
    return tuple(lines), "".join(sorted(entries, key=lambda entry: (-len(entry.split()[1]), entry)))


def did_not_answer(output: str) -> bool:
    """Whether a failed apt says that an archive could not be reached, or was caught in mid-change."""
    return any(map(_TRANSIENT.search, _complaints(output)))


def ignored_failures(output: str) -> bool:
    """Whether an apt that ended well did without some lists: versions before 2.1.16 do not know Error-Mode."""
    return any(map(_IGNORED.match, _complaints(output)))


def had_no_space(output: str) -> bool:
    """Whether a failed apt says that the disk is too small for what it was to fetch."""
    return any(map(_NO_SPACE.search, _complaints(output)))


def build_depends(dsc: Dsc, arguments: BinaryPackageArguments) -> tuple[Alternatives, ...]:
    """What a source needs to be built, reduced as sbuild reduces it (Debian Policy 7.7)."""
    return build_depends_of(dsc.field, *_for_what(arguments))


def build_conflicts(dsc: Dsc, arguments: BinaryPackageArguments) -> tuple[Alternatives, ...]:
    """What must not be installed while a source is built."""
    return build_conflicts_of(dsc.field, *_for_what(arguments))


def dependency_dsc(
    dsc: Dsc, wanted: Iterable[Alternatives], unwanted: Iterable[Alternatives], cross_for: str = ""
) -> str:
    """A .dsc that asks for just these; apt-get build-dep takes it, in any release since Debian 9.

    fakeroot comes along since dpkg-buildpackage may need it (Rules-Requires-Root), and for a cross-build what sbuild
    adds.
    """
    tools = "fakeroot"
    if cross_for:
        tools = f"fakeroot:native, crossbuild-essential-{cross_for}:native, libc-dev, libstdc++-dev"
    lines = [
        "Format: 1.0",
        f"Source: {dsc.source}",
        f"Version: {dsc.version}",
        "Architecture: any",
        "Maintainer: nobody <nobody@localhost>",
        f"Build-Depends: {show_relations([*wanted, *parse_relations(tools)])}",
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


def preferences(package_versions: Iterable[str]) -> str:
    """What has apt choose these versions of packages, where its archives or the chroot have them, be they older than
    others (apt_preferences(5)).

    :param package_versions: each NAME=VERSION or NAME:ARCHITECTURE=VERSION.
    """
    pairs = (each.partition("=") for each in package_versions)
    return "\n".join(f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n" for name, _, version in pairs)


def _for_what(arguments: BinaryPackageArguments) -> tuple[str, frozenset[str], bool]:
    """Architecture and build profiles that decide what applies, and whether arch:all packages are built."""
    return dpkg.host_architecture(arguments), frozenset(dpkg.profiles(arguments)), arguments.arch_indep


def _complaints(output: str) -> list[str]:
    """The errors and warnings of apt's own: none once dpkg was called, as anybody may write then."""
    return [] if _DPKG_BEGINS in output else _COMPLAINT.findall(output)
