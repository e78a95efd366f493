"""How sbuild is called, and what its end means. Pure.

sbuild runs beside a prepared root in its schroot mode, with a schroot of ours, the build-dependencies in place and
without network; it copies the source in, checks it, runs dpkg-buildpackage as an unprivileged user, and copies the
results out. Its exit status (sbuild(1)) and the summary at the end of its log say how it went.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from buildd import dpkg
from buildd.protocol import BinaryPackageArguments, BuildStatus

WRAPPER = "/usr/lib/debfarm/run-build"  # In the root.
CHROOT_NAME = "build"
SUMMARY_BYTES = 65536  # The summary is at the end of the log, and short.

# sbuild reads what dpkg-buildpackage writes to its end, so a daemon that a package starts and forgets would keep it
# waiting until the time limit. When dpkg-buildpackage has ended, whatever else the build user runs is ended here: -1 is
# every process that one may signal but oneself (kill(2)).
WRAPPER_SCRIPT = b"""\
#!/bin/sh
"$@"
status=$?
kill -KILL -1 2>/dev/null
exit $status
"""

# Everything that would touch the root's packages is off: the build-dependencies are there already. What sbuild calls as
# schroot is a variable since 0.86, and was a key without one before.
_CONFIGURATION = """\
$chroot_mode = 'schroot';
my $program = {schroot};
eval '$schroot = $program' or $conf->set('SCHROOT', $program);
$build_user = '{build_user}';
$build_dep_resolver = 'null';
$apt_update = 0;
$apt_upgrade = 0;
$apt_distupgrade = 0;
$apt_clean = 0;
$purge_build_deps = 'never';
$purge_build_directory = 'never';
$run_lintian = 0;
$run_piuparts = 0;
$run_autopkgtest = 0;
$nolog = 1;
$log_colour = 0;
$verbose = 1;
$build_path = '{build_path}';
$build_env_cmnd = '{wrapper}';
$stalled_pkg_timeout = {stalled_minutes};
$build_environment = {{ {environment} }};
1;
"""

# What sbuild calls in place of schroot, with the options that it gives it, about sixty times a build. schroot itself
# reads its configuration, asks PAM and looks up a session each time, where there are one root and two users to choose.
# Each call takes 2.5 ms of processor; in sbuild's autopkgtest mode it would be 8 (env, runuser, sh), in its sudo mode 7
# (su). debconf is not told anything: nothing is configured any more, and it takes a quarter of a second. PATH is
# what the shell has when nobody gives it one.
_SCHROOT = """\
#!/bin/sh
root={root} directory=/ user=root
while [ $# -gt 0 ]; do
    case $1 in
        -d) directory=$2; shift ;;
        -u) user=$2; shift ;;
        -c) shift ;;
        -p | -q | --run-session) ;;
        --) shift; break ;;
        --begin-session) echo {name}; exit ;;
        --end-session) exit ;;
        --info)
            kind=Chroot
            [ "$2" != --chroot ] || kind=Session
            printf -- '--- %s ---\\nName {name}\\nLocation %s\\nAliases \\n' "$kind" "$root"
            exit ;;
        *) echo "schroot: $1 is not known here" >&2; exit 2 ;;
    esac
    shift
done
[ "$1" != /usr/bin/debconf-set-selections ] || exec cat >/dev/null
export PATH PWD="$directory" USER="$user" LOGNAME="$user"
case $user in
    root) exec unshare --root "$root" --wd "$directory" -- "$@" ;;
    {user}) exec unshare --root "$root" --wd "$directory" --setuid {uid} --setgid {gid} -- "$@" ;;
esac
echo "schroot: $user is not known here" >&2
exit 2
"""

_BAD_SOURCE_STAGES = frozenset(
    {
        *("arch-check", "check-architecture", "unpack", "check-unpacked-version", "hack-binNMU", "parse-changes"),
        "source-only-changes",
    }
)
_BAD_CHROOT_STAGES = frozenset({"chroot-arch", "create-session", "create-build-dir", "lock-session", "dump-build-env"})
_STATUS = re.compile(r"^Status: ([a-z-]+)$", re.MULTILINE)
_FAIL_STAGE = re.compile(r"^Fail-Stage: (.+)$", re.MULTILINE)
_BUILT = re.compile(r"^Build-Space: [1-9]", re.MULTILINE)  # dpkg-buildpackage ended well.
_SUMMARY_HEADING = "| Summary "


@dataclass(frozen=True)
class Verdict:
    """How a package build went, as the protocol and a person are told."""

    status: BuildStatus
    reason: str


def configuration(schroot_path: str, environment: Mapping[str, str], silence_s: float) -> str:
    """The text for SBUILD_CONFIG.

    :param schroot_path: of the program that is sbuild's schroot.
    :param environment: what the package's build sees beside sbuild's own variables.
    :param silence_s: the daemon's limit; sbuild's own is set well above, so that one of them decides.
    """
    pairs = ", ".join(f"{_perl(key)} => {_perl(value)}" for key, value in sorted(environment.items()))
    return _CONFIGURATION.format(
        schroot=_perl(schroot_path),
        build_user=dpkg.BUILD_USER,
        build_path=dpkg.BUILD_PATH,
        wrapper=WRAPPER,
        stalled_minutes=int(silence_s / 60) * 2 + 60,
        environment=pairs,
    )


def schroot(root: str, user_ids: str) -> str:
    """The program that is sbuild's schroot, for one build.

    :param root: of the build, as sbuild sees it.
    :param user_ids: "uid:gid" of the build user.
    """
    uid, _, gid = user_ids.partition(":")
    return _SCHROOT.format(root=shlex.quote(root), name=CHROOT_NAME, user=dpkg.BUILD_USER, uid=uid, gid=gid)


def command(arguments: BinaryPackageArguments, dsc: str, changelog_entry: str = "") -> list[str]:
    """sbuild's command line.

    :param dsc: path of the .dsc, its files beside it.
    :param changelog_entry: that makes it a binNMU.
    """
    profiles = dpkg.profiles(arguments)
    return [
        *("sbuild", "--dist", arguments.suite, "--chroot", CHROOT_NAME),
        *("--build", arguments.arch_tag, "--host", dpkg.host_architecture(arguments)),
        *(("--profiles", " ".join(profiles)) if profiles else ()),
        *((f"--binNMU-changelog={changelog_entry}",) if changelog_entry else ()),
        *(("--arch-all",) if arguments.arch_indep else ("--no-arch-all",)),
        *("--no-source", dsc),
    ]


def verdict(exit_status: int | None, log_end: str) -> Verdict:
    """What sbuild's end means: its exit status first, then the last summary in the log.

    A package can print a summary of its own, so what it says is not taken for success, and only the last one counts:
    nothing of the package runs any more when sbuild writes it.

    :param log_end: the last SUMMARY_BYTES of the log.
    """
    if exit_status == 0:
        return Verdict(BuildStatus.OK, "built")
    summary = log_end.rpartition(_SUMMARY_HEADING)[2] if _SUMMARY_HEADING in log_end else ""
    status = _first(_STATUS, summary)
    stage = _first(_FAIL_STAGE, summary)
    if not status:
        return Verdict(BuildStatus.BUILDERFAIL, f"sbuild ended with status {exit_status} and without a summary")
    if exit_status == 2:
        stage = "build"
    if stage == "init" and _BUILT.search(summary):  # All that was left to do was to copy what the .changes names.
        return Verdict(BuildStatus.PACKAGEFAIL, "the results of the build cannot be used: sbuild could not copy them")
    return failure(status, stage)


def failure(status: str, stage: str) -> Verdict:
    """What status and stage of a build that failed mean, as they are in a summary."""
    if stage == "build":
        return Verdict(BuildStatus.PACKAGEFAIL, "the package does not build: dpkg-buildpackage failed")
    if status == "skipped" or stage in _BAD_SOURCE_STAGES:
        return Verdict(BuildStatus.PACKAGEFAIL, f"the source cannot be built here: it stopped at {stage}")
    if stage in _BAD_CHROOT_STAGES:
        return Verdict(BuildStatus.CHROOTFAIL, f"the chroot cannot be used: it stopped at {stage}")
    where = stage or "an unknown stage"
    return Verdict(BuildStatus.BUILDERFAIL, f"the package builder could not do its work: {status} at {where}")


def _first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    return found.group(1) if found else ""


def _perl(text: str) -> str:
    """A string as a single-quoted literal of Perl."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
