"""What the package builder `direct` runs in the root of a build, and how it tells of it in the log. Pure.

Headings, fields and statuses are those of sbuild's logs, since programs read them; a stage that fails has sbuild's name
for it, and means what it means there (sbuild.py).
"""

import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from buildd.dpkg import BUILD_PATH, BUILD_USER

PRIVATE = ".debfarm-build"  # At the top of the root, nobody's but root's.
SOURCE, RESULTS, REPORT, ENTRY = "source", "results", "report", "entry"  # Below it; the script says what they are.
PROGRAM = "debfarm"

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games"
_INNER = 76  # Characters in a heading's frame.
_TREE_NAME = b"<<PKGBUILDDIR>>"
_ABOVE_TREE, _ABOVE_TREE_NAME = BUILD_PATH.lstrip("/").encode(), b"<<BUILDDIR>>"

# Runs as root of the build's namespaces. What comes from the package runs as the build user, and what that leaves
# running is ended before root looks at its files; nor does root follow a name that the package has made. $private has
# the source package, perhaps an entry for the changelog, and in the end the results; and the report, lines of "KEY
# VALUE", of which the last stage is the one that failed.
_SCRIPT = r"""
exec 2>&1 </dev/null
umask 022
subsection() { printf '\n+%s+\n| %-76s |\n+%s+\n\n' "$rule" "$1" "$rule"; }
subsubsection() { printf '\n%s\n%s\n\n' "$1" "$(printf '%s' "$1" | tr '[:print:]' -)"; }
report() { echo "$@" >>"$private/report"; }
fail() { echo "E: $1"; exit 1; }
listed() { as_user awk -v wanted="$1" '/^[^ ]/ { files = /^Files:/ } files && $5 ~ wanted { print $5 }' ./*.changes; }

subsection "Build environment"
echo "Kernel: $(uname -srv) $architecture ($(uname -m))"
dpkg-query --show --showformat '${db:Status-Abbrev} ${Package}_${Version}\n' | awk -v chain="$toolchain" '
    /^.i/ { all = all " " $NF; if ($NF ~ chain) tools = tools " " $NF }
    END { print "Toolchain package versions:" tools; print "Package versions:" all }'

subsection "Build"
subsubsection "Unpack source"
report stage unpack
mkdir -p "$path" && mv "$private"/source/* "$path" && cd "$path" && chown "$user:sbuild" . * && chmod 750 . ||
    fail "the source package cannot be put in place"
cat "$dsc"
echo
as_user dpkg-source -x "$dsc" "$tree" || fail "FAILED [dpkg-source died]"
as_user chmod -R g-sw,o-w,go+rX "$tree" && cd "$tree" || fail "there is no source"

subsubsection "Check disk space"
report stage check-space
needed=$(du -k -s . | cut -f 1)
free=$(df -k . | awk 'END { print $4 }')
[ "$free" -ge $((needed * 2)) ] || fail "the source needs $needed KiB, and $free KiB are free"
echo "Sufficient free space for build"

if [ -f "$private/entry" ]; then
    subsubsection "Hack binNMU version"
    report stage hack-binNMU
    as_user sh -c 'cat - debian/changelog >../changelog && cat ../changelog >debian/changelog && rm ../changelog' \
        <"$private/entry" || fail "the changelog cannot be written"
    echo "Created changelog entry for binNMU version $version"
fi

subsubsection "User Environment"
as_user env | sort

subsubsection "dpkg-buildpackage"
report stage build
report began "$(date +%s)"
echo "Command: $command"
as_user setsid $command
status=$?
kill -KILL -1 2>/dev/null
report ended "$(date +%s)"
echo "$rule--"
echo "Build finished at $(date --utc +%FT%TZ)"
report space "$(du -k -c -s "$tree" "$path"/*.*deb "$path"/*.buildinfo 2>/dev/null | tail -n 1 | cut -f 1)"

subsubsection "Finished"
[ $status = 0 ] || fail "Build failure (dpkg-buildpackage died)"
echo "I: Built successfully"
[ ! -f debian/files ] || as_user cut -d ' ' -f 1 debian/files | while read -r file; do
    if ! as_user test -f "../$file"; then
        echo "E: Package claims to have built $file, but did not.  This is a bug in the packaging."
    elif [ "$type" = any ] && [ "${file%_all.*deb}" != "$file" ]; then
        echo "E: Package builds $file when binary-indep target is not called.  This is a bug in the packaging."
        as_user rm -f "../$file"
    fi
done

cd "$path" || fail "nothing is there"
find . -maxdepth 1 ! -type f ! -type d -delete  # Who reads a fifo waits for ever, and no result is one, nor a link.
subsection "Changes"
for file in *.changes; do
    subsubsection "$file:"
    as_user cat "./$file"
done
subsection "Buildinfo"
listed '^[^/]+[.]buildinfo$' | while read -r file; do
    as_user cat "./$file"
    echo
done
subsection "Package contents"
listed '^[^/]+[.]u?deb$' | while read -r file; do
    subsubsection "$file"
    as_user dpkg-deb --info "./$file"
    echo
    as_user dpkg-deb --contents "./$file" | sort -k 6
    echo
done
subsection "Post Build"
find . -maxdepth 1 -type f -exec chown 0:0 {} + -exec mv --target-directory "$private/results" {} +
report stage
"""
_TOOLCHAIN = (
    r"^(binutils|dpkg-dev|gcc-[0-9.]+|g[+][+]-[0-9.]+|libstdc[+][+][^_]*|libc[0-9.]+-dev|linux-libc-dev|gnumach-dev"
    r"|hurd-dev)_"
)


@dataclass(frozen=True)
class Job:
    """A package to be built in a root that is ready."""

    source: str
    source_version: str  # Of the source package.
    version: str  # Of the packages that are built.
    dsc: str
    distribution: str
    build_architecture: str
    host_architecture: str
    profiles: tuple[str, ...]
    build_type: str  # As dpkg-buildpackage names it: "binary" or "any".
    options: tuple[str, ...]  # Of dpkg-buildpackage.
    environment: Mapping[str, str]  # What the build sees beside what every build sees.

    @property
    def tree(self) -> str:
        """Where the source is unpacked."""
        return f"{BUILD_PATH}/{self.source}-{_without_revision(self.version)}"

    @property
    def _facts(self) -> dict[str, str]:
        """What begins a log, and what its summary has, too."""
        facts = {
            "Package": self.source,
            "Version": self.version,
            "Source Version": self.source_version,
            "Distribution": self.distribution,
            "Machine Architecture": self.build_architecture,
            "Host Architecture": self.host_architecture,
            "Build Architecture": self.build_architecture,
            "Build Profiles": " ".join(self.profiles),
            "Build Type": self.build_type,
        }
        return {name: value for name, value in facts.items() if value}


class LogFilter:
    """Passes on what a build writes, with names in place of the paths that it builds in, as in sbuild's logs."""

    def __init__(self, job: Job, write: Callable[[bytes], None]) -> None:
        self._write = write
        self._path = job.tree.lstrip("/").encode()
        self._held_back = b""  # A path may go on in the next piece.

    def __call__(self, data: bytes) -> None:
        data = (self._held_back + data).replace(self._path, _TREE_NAME)
        ends = range(max(0, len(data) - len(self._path) + 1), len(data))
        end = next((end for end in ends if self._path.startswith(data[end:])), len(data))
        self._held_back = data[end:]
        self._pass_on(data[:end])

    def close(self) -> None:
        """Pass on what is held back."""
        self._pass_on(self._held_back)
        self._held_back = b""

    def _pass_on(self, data: bytes) -> None:
        self._write(data.replace(_ABOVE_TREE, _ABOVE_TREE_NAME))


@dataclass(frozen=True)
class Report:
    """How far the script came."""

    stage: str  # sbuild's name for the one that failed; "" when none has.
    build_s: int = 0
    space_kib: int | None = None

    @property
    def status(self) -> str:
        """sbuild's word for it."""
        match self.stage:
            case "":
                return "successful"
            case "build":
                return "attempted"
            case "arch-check":
                return "skipped"
        return "failed"


def script(job: Job, user_ids: str) -> str:
    """The shell script that builds the package.

    :param user_ids: "uid:gid" of the build user.
    """
    uid, _, gid = user_ids.partition(":")
    environment = {
        "HOME": "/sbuild-nonexistent",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "LOGNAME": BUILD_USER,
        "PATH": _PATH,
        "SHELL": "/bin/sh",
        "USER": BUILD_USER,
        **job.environment,
    }
    pairs = [f"{name}={value}" for name, value in sorted(environment.items())]
    as_user = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--init-groups", "env", "--ignore-environment", *pairs]
    variables = {
        "rule": "-" * (_INNER + 2),
        "private": f"/{PRIVATE}",
        "path": BUILD_PATH,
        "tree": job.tree,
        "user": BUILD_USER,
        "dsc": job.dsc,
        "version": job.version,
        "type": job.build_type,
        "architecture": job.build_architecture,
        "toolchain": _TOOLCHAIN,
        "command": " ".join(["dpkg-buildpackage", *job.options]),
    }
    lines = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    return "\n".join([*lines, f'as_user() {{ {shlex.join(as_user)} "$@"; }}', _SCRIPT])


def opening(job: Job, version: str, host: str, now: float) -> str:
    """What the log begins with.

    :param version: the daemon's own.
    """
    name = f"{job.source} {job.version} ({job.host_architecture})"
    date = time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(now))
    title = f"{name} {date:>{max(0, _INNER - len(name) - 1)}}"
    rule = f"+{'=' * (len(title) + 2)}+"
    facts = "".join(f"{name}: {value}\n" for name, value in job._facts.items())
    replaced = [(job.tree.lstrip("/"), _TREE_NAME), (_ABOVE_TREE.decode(), _ABOVE_TREE_NAME)]
    notices = "".join(
        f"I: NOTICE: Log filtering will replace '{path}' with '{name.decode()}'\n" for path, name in replaced
    )
    return (
        f"{PROGRAM} {version} (package builder direct) on {host}\n\n{rule}\n| {title} |\n{rule}\n\n{facts}"
        f"{_heading('Fetch source files')}\nLocal sources\n-------------\n\n"
        f"{job.dsc} and what it names are here.\n{notices}"
        f"{_heading('Install package build dependencies')}They are in place."
    )


def arch_check(job: Job, architectures: str, fits: bool) -> str:
    """What the log says of whether the package is for this architecture.

    :param architectures: those that the .dsc names.
    """
    said = (
        f"Arch check ok ({job.host_architecture} included in {architectures})"
        if fits
        else f"E: {job.host_architecture} is not among the architectures of the package: {architectures}"
    )
    return f"{_heading('Check architectures')}{said}"


def parse_report(text: str) -> Report:
    """What the script wrote to its report; a missing one means that it did not begin."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        found[key] = value
    began, ended, space = (_number(found.get(key, "")) for key in ("began", "ended", "space"))
    return Report(found.get("stage", "init"), max(0, ended - began), space or None)


def _number(text: str) -> int:
    """A number in a report; 0 for anything else, as what runs as root in there may have written it."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else 0


def summary(job: Job, report: Report, took_s: float, now: float) -> str:
    """What the log ends with."""
    space = "n/a" if report.space_kib is None else str(report.space_kib)
    facts = {name.replace("Source Version", "Source-Version"): value for name, value in job._facts.items()}
    facts |= {
        "Build-Space": space,
        "Build-Time": str(report.build_s),
        "Install-Time": "0",
        "Job": job.dsc,
        "Package-Time": str(int(took_s)),
        "Space": space,
        "Status": report.status,
        **({"Fail-Stage": report.stage} if report.stage else {}),
    }
    lines = "".join(f"{name}: {value}\n" for name, value in sorted(facts.items()))
    minutes, seconds = divmod(int(took_s), 60)
    needed = f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
    disk = "no" if report.space_kib is None else f"{report.space_kib}k"
    finished = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))
    rule = "-" * (_INNER + 4)
    cleanup = f"{_heading('Cleanup')}All of it goes with the build.\n"
    return (
        f"{cleanup}{_heading('Summary')}{lines}{rule}\nFinished at {finished}\nBuild needed {needed}, {disk} disk space"
    )


def _heading(text: str) -> str:
    rule = f"+{'-' * (_INNER + 2)}+"
    return f"\n{rule}\n| {text:{_INNER}} |\n{rule}\n\n"


def _without_revision(version: str) -> str:
    """The upstream part of a version, as the directory of a source that sbuild unpacks has it."""
    upstream = version.partition(":")[2] or version
    return upstream.rpartition("-")[0] or upstream
