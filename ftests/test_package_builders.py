"""Both package builders, on real packages: what they are asked for, and how they end."""

import os
import re
from pathlib import Path

import pytest

from ftests.stock_client import StockClient
from ftests.tiny_source import tiny_source
from harness import base_chroot

pytestmark = [pytest.mark.real, pytest.mark.parametrize("builder", ["sbuild", "direct"])]

_FIELD = re.compile(r"^([A-Z][A-Za-z -]+): ", re.MULTILINE)
# A line of 80 is no heading's.
_HEADING = re.compile(r"^\| (.{76}) \|$|^(?=(.+)\n-{2,79}$)", re.MULTILINE)
BEFORE = ["Fetch source files", "Local sources", "Install package build dependencies", "Check architectures"]
BUILDING = [
    *("Build environment", "Build", "Unpack source", "Check disk space", "User Environment", "dpkg-buildpackage"),
    "Finished",
]


def headings(log: str) -> list[str]:
    """Those of a package builder's log, of both kinds, after its title."""
    return [(first or second).strip() for first, second in _HEADING.findall(log.partition("\n=== build ===\n")[2])][1:]


def test_a_log_and_its_summary(client: StockClient, tmp_path: Path, builder: str) -> None:
    """The headings, and every field of the summary, whichever builder writes them."""
    status, log = client.build("log", tiny_source(tmp_path), base_chroot(), package_builder=builder)
    assert status["build_status"] == "BuildStatus.OK", log[-4000:]
    results = ["Changes", "tiny_1.0_amd64.changes:", "Buildinfo", "Package contents", "tiny_1.0_amd64.deb"]
    assert headings(log) == [*BEFORE, *BUILDING, *results, "Post Build", "Cleanup", "Summary"]
    summary = log.rpartition("| Summary ")[2]
    assert _FIELD.findall(summary) == sorted(
        [
            *("Build Architecture", "Build Type", "Build-Space", "Build-Time", "Distribution", "Host Architecture"),
            *("Install-Time", "Job", "Machine Architecture", "Package", "Package-Time", "Source-Version", "Space"),
            *("Status", "Version"),
        ]
    )
    assert "\nStatus: successful\n" in summary
    changes = next(name for name in status["filemap"] if name.endswith(".changes"))
    assert b"\nDistribution: bookworm\n" in client.fetch(status["filemap"][changes])


def test_a_build_is_shut_in_alike(client: StockClient, tmp_path: Path, builder: str) -> None:
    """User, groups, directory, umask and environment of a build: nothing of it depends on the package builder."""
    look = (
        "id; pwd; umask; stat -c '%U:%G %a' . .. ../..; readlink /proc/self/fd/0; tty; cut -d ' ' -f 7 /proc/self/stat;"
        " env | sort | grep -v -e ^SCHROOT_ -e ^APT_CONFIG= -e ^MAKE -e ^MFLAGS; echo end"
    )
    source = tiny_source(tmp_path, build=f"echo begin; {look}")
    _, log = client.build("environment", source, base_chroot(), package_builder=builder)
    said = (
        log.replace("<<PKGBUILDDIR>>", "build/reproducible-path/tiny-1.0")
        .partition("\nbegin\n")[2]
        .partition("\nend\n")[0]
    )
    assert said.splitlines()[:10] == [
        *(line for line in said.splitlines() if line.startswith("uid=")),
        *("/build/reproducible-path/tiny-1.0", "0022", "buildd:buildd 755", "buildd:sbuild 750", "buildd:sbuild 770"),
        *("/dev/null", "not a tty", "0"),
        "DEB_BUILD_ARCH=amd64",
    ]
    variables = dict(line.split("=", 1) for line in said.splitlines()[9:] if not line.startswith(("DEB_", "PWD")))
    assert variables == {
        "HOME": "/sbuild-nonexistent",
        "LANG": "C.UTF-8",
        "LC_ALL": "C.UTF-8",
        "LC_COLLATE": "C.UTF-8",
        "LOGNAME": "buildd",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games",
        "SHELL": "/bin/sh",
        "SOURCE_DATE_EPOCH": "1717243200",
        "USER": "buildd",
    }


@pytest.mark.parametrize("build", ["false", "setsid sleep 9876 & kill -9 $$PPID"], ids=["fails", "killed"])
def test_a_package_that_does_not_build(client: StockClient, tmp_path: Path, builder: str, build: str) -> None:
    """PACKAGEFAIL; stage and status are in the summary."""
    status, log = client.build("fails", tiny_source(tmp_path, build=build), base_chroot(), package_builder=builder)
    assert status["build_status"] == "BuildStatus.PACKAGEFAIL"
    summary = log.rpartition("| Summary ")[2]
    assert "\nFail-Stage: build\n" in summary
    assert "\nStatus: attempted\n" in summary
    assert headings(log) == [*BEFORE, *BUILDING, "Cleanup", "Summary"]


def test_a_package_for_other_architectures(client: StockClient, tmp_path: Path, builder: str) -> None:
    """It is not even tried."""
    source = tiny_source(tmp_path)
    source.write_text(source.read_text().replace("Architecture: any", "Architecture: hurd-any"))
    status, log = client.build("elsewhere", source, base_chroot(), package_builder=builder)
    assert status["build_status"] == "BuildStatus.PACKAGEFAIL"
    assert headings(log) == [*BEFORE, "Cleanup", "Summary"]
    summary = log.rpartition("| Summary ")[2]
    assert "\nFail-Stage: arch-check\n" in summary
    assert "\nStatus: skipped\n" in summary


def test_packages_that_nobody_asked_for(client: StockClient, tmp_path: Path, builder: str) -> None:
    """With packages for one architecture wanted, another is no result; what its maker did wrong is told."""
    control = "Package: stray\\nVersion: 1\\nArchitecture: all\\nMaintainer: a <a@b>\\nDescription: x\\n"
    make = (
        f"mkdir -p x/DEBIAN; printf '{control}' >x/DEBIAN/control; dpkg-deb -b x ..; dpkg-deb -b x ../unlisted_all.deb"
    )
    source = tiny_source(tmp_path, build=f"{make}; dpkg-distaddfile stray_1_all.deb misc optional")
    status, log = client.build("stray", source, base_chroot(), package_builder=builder, arch_indep=False)
    assert sorted(status["filemap"]) == [
        f"tiny_1.0_{client.architecture}.{end}" for end in ("buildinfo", "changes", "deb")
    ]
    wrong = (
        "E: Package builds stray_1_all.deb when binary-indep target is not called.  This is a bug in the packaging.\n"
    )
    assert wrong in log
    contents = log.partition("| Package contents ")[2]
    assert "_all.deb" not in contents


def test_a_result_that_nobody_asked_for(client: StockClient, tmp_path: Path, builder: str) -> None:
    """A .changes that names a package for all architectures nevertheless names what is not there."""
    look = "while [ ! -e ../tiny_1.0_amd64.changes ]; do sleep 0.01; done"
    lie = "sed -i s/tiny_1.0_amd64.deb/tiny_1.0_all.deb/ ../tiny_1.0_amd64.changes debian/files"
    source = tiny_source(
        tmp_path, build=f"({look}; mv ../tiny_1.0_amd64.deb ../tiny_1.0_all.deb; {lie}) >/dev/null 2>&1 &"
    )
    status, log = client.build("lie", source, base_chroot(), package_builder=builder, arch_indep=False)
    assert status["build_status"] == "BuildStatus.PACKAGEFAIL", log[-4000:]
    assert not status["filemap"]


def test_paths_in_a_log(client: StockClient, tmp_path: Path, builder: str) -> None:
    """Names are in their place, in whatever pieces they are written; and none is the daemon's."""
    look = "printf '/build/reproduc'; sleep 0.2; echo ible-path/tiny-1.0/x; pwd; cd ..; pwd; printf %s $$PWD/tiny-1."
    _, log = client.build("paths", tiny_source(tmp_path, build=look), base_chroot(), package_builder=builder)
    assert "\n/<<PKGBUILDDIR>>/x\n/<<PKGBUILDDIR>>\n/<<BUILDDIR>>\n/<<BUILDDIR>>/tiny-1." in log
    notice = "I: NOTICE: Log filtering will replace 'build/reproducible-path/tiny-1.0' with '<<PKGBUILDDIR>>'\n"
    assert notice in log
    built = log.partition("\n| Build  ")[2].partition("\n| Cleanup ")[0]
    assert "reproducible-path" not in built
    assert "/builds/build-" not in built
    assert "Use of uninitialized value" not in built


@pytest.mark.parametrize(
    "trick",
    [
        "ln -sf /etc/passwd ../tiny_1.0_amd64.deb",
        "cd /build && mv reproducible-path there && mkdir elsewhere && ln -s elsewhere reproducible-path",
    ],
    ids=["package", "directory"],
)
def test_results_that_are_not_what_they_seem(client: StockClient, tmp_path: Path, builder: str, trick: str) -> None:
    """A link in place of a package, or of the directory that packages are in, made once the .changes is written."""
    wait = "while [ ! -e ../tiny_1.0_amd64.changes ]; do sleep 0.01; done"
    source = tiny_source(tmp_path, build=f"({wait}; {trick}) >/dev/null 2>&1 &")
    status, log = client.build("trick", source, base_chroot(), package_builder=builder)
    assert status["build_status"] == "BuildStatus.PACKAGEFAIL", log[-4000:]
    assert "cannot be used" in status["reason"]


@pytest.mark.parametrize(
    "trick",
    [
        "rm ../tiny_1.0_amd64.deb; mkfifo ../tiny_1.0_amd64.deb",
        "mkdir ../in; mkfifo ../in/a.deb; sed -i s,tiny_1.0_amd64.deb,in/a.deb, ../tiny_1.0_amd64.changes",
        "rm debian/files; mkfifo debian/files; rm ../tiny_1.0_amd64.deb",
    ],
    ids=["package", "elsewhere", "list"],
)
def test_a_fifo_in_place_of_a_result(client: StockClient, tmp_path: Path, builder: str, trick: str) -> None:
    """It is refused: at once by `direct`, while sbuild may read it until the build is ended for its silence."""
    wait = "while [ ! -s ../tiny_1.0_amd64.changes ]; do sleep 0.01; done"
    source = tiny_source(tmp_path, build=f"({wait}; {trick}) >/dev/null 2>&1 &")
    status, log = client.build("fifo", source, base_chroot(), package_builder=builder, limits={"silence": 5})
    assert status["build_status"] == "BuildStatus.PACKAGEFAIL", log[-4000:]
    assert not status["filemap"]
    if builder == "direct":
        assert "cannot be used" in status["reason"]


def said(log: str, word: str) -> str:
    """What a package's build printed behind a word at the beginning of a line."""
    found = re.findall(rf"^{word}=(.*)$", log, re.MULTILINE)
    assert found, log[-4000:]
    return str(found[-1])


def test_what_a_build_is_asked_for(client: StockClient, tmp_path: Path, builder: str) -> None:
    """Profiles, which need other packages; options, with no more jobs than are allowed; a date."""
    look = "echo PROFILES=$$DEB_BUILD_PROFILES; echo OPTIONS=$$DEB_BUILD_OPTIONS; echo DATE=$$SOURCE_DATE_EPOCH; bc -v"
    source = tiny_source(tmp_path, build=look, needs="never <!pkg.tiny.calculator>, bc <pkg.tiny.calculator>")
    status, log = client.build(
        "asked",
        source,
        base_chroot(),
        package_builder=builder,
        build_profiles=["nocheck", "pkg.tiny.calculator"],
        build_options=["parallel=9999", "nostrip"],
        build_debug_symbols=False,
        source_date_epoch=1234567890,
    )
    assert status["build_status"] == "BuildStatus.OK", log[-4000:]
    assert said(log, "PROFILES") == "nocheck pkg.tiny.calculator"
    assert re.fullmatch("parallel=[0-9]{1,3} nostrip noautodbgsym", said(log, "OPTIONS"))
    assert said(log, "DATE") == "1234567890"
    assert "\nBuild Profiles: nocheck pkg.tiny.calculator\n" in log.rpartition("| Summary ")[2]
    buildinfo = next(name for name in status["filemap"] if name.endswith(".buildinfo"))
    assert b'\n SOURCE_DATE_EPOCH="1234567890"\n' in client.fetch(status["filemap"][buildinfo])


def test_a_binnmu(client: StockClient, tmp_path: Path, builder: str) -> None:
    """A version of its own; .changes and .buildinfo say of which source it is, and why it was built."""
    binnmu = {"number": 2, "changelog": "Rebuild for the test.", "maintainer": "Ann <ann@localhost>"}
    source = tiny_source(tmp_path, build="head -n 6 debian/changelog")
    status, log = client.build(
        "binnmu", source, base_chroot(), package_builder=builder, arch_indep=False, binnmu=binnmu
    )
    assert status["build_status"] == "BuildStatus.OK", log[-4000:]
    assert "\ntiny (1.0+b2) bookworm; urgency=low, binary-only=yes\n" in log
    names = sorted(status["filemap"])
    assert names == [f"tiny_1.0+b2_{client.architecture}.{ending}" for ending in ("buildinfo", "changes", "deb")]
    changes = client.fetch(status["filemap"][names[1]]).decode()
    assert "\nSource: tiny (1.0)\n" in changes
    assert "\nBinary-Only: yes\n" in changes
    assert "Rebuild for the test." in changes
    assert "\nVersion: 1.0+b2\n" in log.rpartition("| Summary ")[2]


@pytest.mark.skipif(not os.environ.get("DEBFARM_CROSS"), reason="fetches 70 MB: set DEBFARM_CROSS=1")
def test_a_cross_build(client: StockClient, tmp_path: Path, builder: str) -> None:
    """A program for another architecture, with a library of the other, and a tool of its own."""
    other = "arm64" if client.architecture == "amd64" else "amd64"
    program = "bc -v && echo 'int main(void) { return 0; }' >x.c && $$DEB_HOST_GNU_TYPE-gcc -o x x.c -lz"
    look = (
        "readelf -h x | sed -n 's/ *Machine: */MACHINE=/p'; echo PROFILES=$$DEB_BUILD_PROFILES; echo SITE=$$CONFIG_SITE"
    )
    source = tiny_source(tmp_path, build=f"{program} && {look}", needs="zlib1g-dev, bc")
    status, log = client.build(
        "cross", source, base_chroot(), package_builder=builder, arch_indep=False, host_architecture=other
    )
    assert status["build_status"] == "BuildStatus.OK", log[-4000:]
    assert said(log, "MACHINE") == {"arm64": "AArch64", "amd64": "Advanced Micro Devices X86-64"}[other]
    assert said(log, "PROFILES") == "cross nocheck"
    assert said(log, "SITE") == f"/etc/dpkg-cross/cross-config.{other}"
    assert f"tiny_1.0_{other}.deb" in status["filemap"]
    assert f"\nHost Architecture: {other}\n" in log.rpartition("| Summary ")[2]
