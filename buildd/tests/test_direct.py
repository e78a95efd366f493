"""What the package builder `direct` runs, and how it tells of it."""

import subprocess
from dataclasses import replace

import pytest

from buildd import direct, sbuild
from buildd.protocol import BuildStatus

JOB = direct.Job(
    source="hello",
    source_version="1:2.10-3",
    version="1:2.10-3",
    dsc="hello_2.10-3.dsc",
    distribution="bookworm",
    build_architecture="amd64",
    host_architecture="amd64",
    profiles=(),
    build_type="any",
    options=("-us", "-uc"),
    environment={"DEB_BUILD_OPTIONS": "parallel=2"},
)


def test_the_script_is_one() -> None:
    """A shell takes it, whatever is in the names."""
    odd = replace(JOB, dsc="a 'b\" $(exit 1)\n`x`.dsc", environment={"A": "it's $HOME"})
    text = direct.script(odd, "2001:2001")
    subprocess.run(["sh", "-n"], input=text.encode(), check=True)
    assert "--reuid=2001 --regid=2001" in text
    assert "$(exit 1)" not in text.replace("'a '\"'\"'b\" $(exit 1)\n`x`.dsc'", "")


@pytest.mark.parametrize(
    ("version", "directory"),
    [("1:2.10-3", "hello-2.10"), ("2.10", "hello-2.10"), ("1-2-3", "hello-1-2"), ("1.0+b1", "hello-1.0+b1")],
)
def test_where_the_source_is_unpacked(version: str, directory: str) -> None:
    """The path is in what some packages build, so it is sbuild's."""
    text = direct.script(replace(JOB, version=version), "1:1")
    assert f"\ntree=/build/reproducible-path/{directory}\n" in text


@pytest.mark.parametrize(
    ("report", "stage", "status", "verdict"),
    [
        ("stage unpack\nstage build\nbegan 5\nended 8\nspace 70\nstage \n", "", "successful", None),
        ("stage unpack\n", "unpack", "failed", BuildStatus.PACKAGEFAIL),
        ("stage unpack\nstage build\nbegan 5\nended 8\nspace 70\n", "build", "attempted", BuildStatus.PACKAGEFAIL),
        ("stage unpack\nstage check-space\n", "check-space", "failed", BuildStatus.BUILDERFAIL),
        ("", "init", "failed", BuildStatus.BUILDERFAIL),
        ("began x\nended -1\nspace 99999999999999999999\nstage \n", "", "successful", None),
    ],
)
def test_what_the_script_reports(report: str, stage: str, status: str, verdict: BuildStatus | None) -> None:
    """The last stage that began has failed, unless all went well to the end; without a report it did not begin."""
    found = direct.parse_report(report)
    assert (found.stage, found.status) == (stage, status)
    assert not stage or sbuild.failure(status, stage).status is verdict


def test_a_summary_is_as_sbuild_writes_it() -> None:
    """Whoever reads sbuild's logs finds status and stage in it."""
    text = direct.summary(JOB, direct.Report("build", 3, 70), 3661, 0)
    assert text.splitlines()[1:] == [
        "+------------------------------------------------------------------------------+",
        "| Cleanup                                                                      |",
        "+------------------------------------------------------------------------------+",
        "",
        "All of it goes with the build.",
        "",
        "+------------------------------------------------------------------------------+",
        "| Summary                                                                      |",
        "+------------------------------------------------------------------------------+",
        "",
        "Build Architecture: amd64",
        "Build Type: any",
        "Build-Space: 70",
        "Build-Time: 3",
        "Distribution: bookworm",
        "Fail-Stage: build",
        "Host Architecture: amd64",
        "Install-Time: 0",
        "Job: hello_2.10-3.dsc",
        "Machine Architecture: amd64",
        "Package: hello",
        "Package-Time: 3661",
        "Source-Version: 1:2.10-3",
        "Space: 70",
        "Status: attempted",
        "Version: 1:2.10-3",
        "-" * 80,
        "Finished at 1970-01-01T00:00:00Z",
        "Build needed 01:01:01, 70k disk space",
    ]
    assert sbuild.verdict(2, text).status is BuildStatus.PACKAGEFAIL


def test_the_opening_names_the_package() -> None:
    """In a frame that is as wide as it needs to be."""
    assert "| hello 1:2.10-3 (amd64)                       Thu, 01 Jan 1970 00:00:00 +0000 |\n" in direct.opening(
        JOB, "0.1", "here", 0
    )
    long = replace(JOB, version="1." + "0" * 90)
    frame, title, _ = direct.opening(long, "0.1", "here", 0).splitlines()[2:5]
    assert len(frame) == len(title)


@pytest.mark.parametrize("size", range(1, 60))
def test_paths_have_names_whatever_pieces_they_come_in(size: int) -> None:
    """As sbuild's logs have them; what only begins like one is as it was written, in the end."""
    job = replace(JOB, source="abuild", version="1-b-1")
    said = (
        b"in /build/reproducible-path/abuild-1-b/src\n/build/reproducible-path\nbuild/repro build/reproducible-path/ab"
    )
    written: list[bytes] = []
    output = direct.LogFilter(job, written.append)
    for start in range(0, len(said), size):
        output(said[start : start + size])
    output.close()
    assert b"".join(written) == b"in /<<PKGBUILDDIR>>/src\n/<<BUILDDIR>>\nbuild/repro <<BUILDDIR>>/ab"


def test_nothing_waits_that_is_no_path() -> None:
    """A log is read while it is written, a line that is not complete as well."""
    written: list[bytes] = []
    output = direct.LogFilter(JOB, written.append)
    output(b"checking for a b")
    output(b"rain... ")
    assert written == [b"checking for a ", b"brain... "]
