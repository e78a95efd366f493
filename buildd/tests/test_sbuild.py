"""sbuild's command line, and what its end means."""

import subprocess
from pathlib import Path

import pytest

from buildd import sbuild
from buildd.protocol import BinaryPackageArguments, BuildStatus

SUMMARY = (
    "x\n+---+\n| Summary     |\n+---+\n\nBuild Architecture: amd64\nFail-Stage: {stage}\nStatus: {status}\nVersion: 1\n"
)


@pytest.mark.parametrize(
    ("exit_status", "stage", "status", "expected"),
    [
        (0, "build", "attempted", BuildStatus.OK),  # The exit status comes first.
        (2, "build", "attempted", BuildStatus.PACKAGEFAIL),
        (1, "arch-check", "skipped", BuildStatus.PACKAGEFAIL),
        (1, "unpack", "failed", BuildStatus.PACKAGEFAIL),
        (1, "hack-binNMU", "failed", BuildStatus.PACKAGEFAIL),  # There is no changelog.
        (1, "chroot-arch", "failed", BuildStatus.CHROOTFAIL),
        (1, "create-session", "failed", BuildStatus.CHROOTFAIL),
        (1, "init", "failed", BuildStatus.BUILDERFAIL),
        (3, "fetch-src", "given-back", BuildStatus.BUILDERFAIL),
    ],
)
def test_the_verdict(exit_status: int, stage: str, status: str, expected: BuildStatus) -> None:
    """Exit status, then status and stage of the summary."""
    assert sbuild.verdict(exit_status, SUMMARY.format(stage=stage, status=status)).status is expected


def test_a_summary_that_the_package_printed_does_not_count() -> None:
    """The last summary is sbuild's own."""
    log = SUMMARY.format(stage="chroot-arch", status="failed") + SUMMARY.format(stage="build", status="attempted")
    assert sbuild.verdict(1, log).status is BuildStatus.PACKAGEFAIL


def test_results_that_sbuild_cannot_copy_are_the_packages_fault() -> None:
    """Its .changes names what it likes; sbuild has no stage for that."""
    built = SUMMARY.format(stage="init", status="failed") + "Build-Space: 64\n"
    assert sbuild.verdict(1, built).status is BuildStatus.PACKAGEFAIL
    assert sbuild.verdict(1, built.replace("64", "n/a")).status is BuildStatus.BUILDERFAIL


@pytest.mark.parametrize("exit_status", [1, 137, None])
def test_no_summary_is_the_builders_fault(exit_status: int | None) -> None:
    """sbuild that crashes says nothing of the package, whatever a log line looks like."""
    assert sbuild.verdict(exit_status, "Status: successful\n").status is BuildStatus.BUILDERFAIL


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_the_command_line() -> None:
    """Architecture, suite and arch:all as asked for."""
    arguments = BinaryPackageArguments(arch_tag="arm64", series="trixie", suite="trixie-proposed", arch_indep=True)
    command = sbuild.command(arguments, "/x/y.dsc")
    assert option(command, "--dist") == "trixie-proposed"
    assert (option(command, "--build"), option(command, "--host")) == ("arm64", "arm64")
    assert "--arch-all" in command
    assert "--profiles" not in command
    assert "--no-arch-all" in sbuild.command(BinaryPackageArguments("amd64", "x", "x"), "/x/y.dsc")


def test_what_is_asked_for_beyond_the_usual() -> None:
    """Profiles, another architecture, an entry for the changelog: by sbuild's own options."""
    arguments = BinaryPackageArguments("amd64", "x", "x", host_architecture="arm64", build_profiles=("a", "b"))
    command = sbuild.command(arguments, "/x/y.dsc", "an entry\n")
    assert (option(command, "--build"), option(command, "--host")) == ("amd64", "arm64")
    assert option(command, "--profiles") == "a b"
    assert "--binNMU-changelog=an entry\n" in command


def test_text_cannot_leave_its_perl_string() -> None:
    """The configuration is a program; what goes into it is quoted."""
    text = sbuild.configuration("/it's/schroot", {"A": "it's \\ $x @y"}, 60)
    assert "$program = '/it\\'s/schroot';" in text
    assert "'A' => 'it\\'s \\\\ $x @y'" in text


def schroot(path: Path, *arguments: str) -> tuple[int, str]:
    """What our schroot says to this."""
    path.write_text(sbuild.schroot("/a root's", "2001:2501"))
    done = subprocess.run(
        ["sh", path, *arguments], check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    return done.returncode, done.stdout


def test_schroot_knows_one_root(tmp_path: Path) -> None:
    """As a chroot and as a session, in the words that sbuild looks for."""
    lines = ["Name build", "Location /a root's", "Aliases "]
    assert schroot(tmp_path / "schroot", "--info") == (0, "\n".join(["--- Chroot ---", *lines, ""]))
    about_session = schroot(tmp_path / "schroot", "--info", "--chroot", "session:build")
    assert about_session == (0, "\n".join(["--- Session ---", *lines, ""]))
    assert schroot(tmp_path / "schroot", "-c", "build", "--begin-session") == (0, "build\n")
    assert schroot(tmp_path / "schroot", "-c", "build", "--end-session") == (0, "")


def test_schroot_runs_nothing_as_it_should_not_be(tmp_path: Path) -> None:
    """An option or a user that it does not know: another sbuild, which wants something else."""
    run = ("-d", "/", "-c", "build", "--run-session", "-q")
    assert schroot(tmp_path / "schroot", *run, "-u", "nobody", "-p", "--", "true") == (2, "")
    assert schroot(tmp_path / "schroot", *run, "--recover-session") == (2, "")
    assert schroot(tmp_path / "schroot", *run, "-u", "root", "-p", "--", "true")[0] not in (
        0,
        2,
    )  # There is no such root.
