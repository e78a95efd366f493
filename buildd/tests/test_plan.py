"""Requests for binary packages: what is taken from them, and that hostile ones cost little."""

import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from buildd.buildlog import BuildLog
from buildd.config import BuilddConfig
from buildd.limits import configured_limits
from buildd.managers.base import BuildRequest
from buildd.managers.plan import Plan, make_plan
from buildd.managers.rootfiles import root_files
from buildd.protocol import BuildId, FileName, ProtocolError, Sha1

SOURCE = b"the source"


def request(tmp_path: Path, more: str = "", **arguments: Any) -> BuildRequest:
    """A request for hello 1.0, with more fields in its .dsc."""
    tmp_path.mkdir(exist_ok=True)
    tarball, dsc = tmp_path / "tarball", tmp_path / "dsc"
    tarball.write_bytes(SOURCE)
    dsc.write_text(
        "Format: 3.0 (native)\nSource: hello\nVersion: 1.0\nArchitecture: any\n"
        f"{more}Checksums-Sha256:\n {hashlib.sha256(SOURCE).hexdigest()} {len(SOURCE)} hello_1.0.tar.xz\n"
    )
    directory = tmp_path / "build"
    directory.mkdir(exist_ok=True)
    return BuildRequest(
        build_id=BuildId("b-1"),
        chroot_sha1=Sha1("1" * 40),
        chroot=tmp_path / "chroot",
        files={FileName("hello_1.0.dsc"): dsc, FileName("hello_1.0.tar.xz"): tarball},
        arguments={"arch_tag": "amd64", "series": "bookworm", "suite": "bookworm", **arguments},
        directory=directory,
        log=BuildLog(tmp_path / "log", 1 << 20),
        begin=lambda stage: None,
        limits=configured_limits(BuilddConfig()),
    )


def plan(tmp_path: Path, more: str = "", **arguments: Any) -> Plan:
    return make_plan(request(tmp_path, more, **arguments), "amd64")


def test_all_that_a_build_needs_is_in_its_plan(tmp_path: Path) -> None:
    """Relations reduced to what applies, and the .dsc that asks apt for them."""
    made = plan(tmp_path, "Build-Depends: aa:any | bb, cc [i386]\nBuild-Depends-Indep: dd\nBuild-Conflicts: ee\n")
    assert (made.dsc_name, made.dsc.source) == ("hello_1.0.dsc", "hello")
    assert "Build-Depends: aa:any, fakeroot\nBuild-Conflicts: ee\n" in made.dependency_dsc


def test_profiles_and_architecture_decide_what_is_needed(tmp_path: Path) -> None:
    """Of the build, or what sbuild takes for a cross-build; which needs a compiler besides."""
    more = "Build-Depends: aa <!nocheck>, bb <pkg.x.y>, cc [arm64]\n"
    assert "Build-Depends: aa, fakeroot\n" in plan(tmp_path, more).dependency_dsc
    wanted = plan(tmp_path, more, build_profiles=["nocheck", "pkg.x.y"]).dependency_dsc
    assert "Build-Depends: bb, fakeroot\n" in wanted
    crossed = plan(tmp_path, more, host_architecture="arm64").dependency_dsc
    tools = "fakeroot:native, crossbuild-essential-arm64:native, libc-dev, libstdc++-dev"
    assert f"Build-Depends: cc, {tools}\n" in crossed
    assert plan(tmp_path, more, host_architecture="amd64") == plan(tmp_path, more, host_architecture="amd64")


@pytest.mark.parametrize(
    ("more", "arguments", "complaint"),
    [
        ("Build-Depends: ${x}\n", {}, "not a package relationship"),
        ("", {"suite": ""}, "not a suite"),
        ("", {"trusted_keys": ["%"]}, "not base64"),
    ],
)
def test_what_cannot_be_built_is_refused_at_once(
    tmp_path: Path, more: str, arguments: dict[str, Any], complaint: str
) -> None:
    """One kind of error for arguments and control data alike: build() answers with it."""
    with pytest.raises(ProtocolError, match=complaint):
        plan(tmp_path, more, **arguments)


def test_a_request_needs_one_dsc(tmp_path: Path) -> None:
    """None is no source package, and two are not one."""
    asked = request(tmp_path)
    with pytest.raises(ProtocolError, match=r"one \.dsc, not 0"):
        make_plan(replace(asked, files={}), "amd64")


def test_a_huge_field_costs_little(tmp_path: Path) -> None:
    """3 MB of Build-Depends took seconds to parse; they are refused by their length."""
    began = time.process_time()
    with pytest.raises(ProtocolError, match="too long"):
        plan(tmp_path, f"Build-Depends: {'aaa [!hurd-any] <!nocheck>, ' * 100_000}\n")
    assert time.process_time() - began < 1


def test_passwords_are_in_no_file_of_the_root(tmp_path: Path) -> None:
    """So that what is kept of the root is good for whoever may read the archive, and tells nobody how."""
    one, other, elsewhere = (
        plan(tmp_path, archives=[f"deb http://{place} ./"]) for place in ("a:b@h/x", "c:d@h/x", "a:b@h/y")
    )
    assert files(one) == files(other) != files(elsewhere)
    assert one.sources == ("deb http://h/x ./",)
    assert one.auth_conf == "machine http://h/x/ login a password b\n"


def files(made: Plan) -> bytes:
    return root_files(made)


def test_a_url_that_is_none_is_not_repeated(tmp_path: Path) -> None:
    """There may be a password in it, that nobody could make out."""
    with pytest.raises(ProtocolError, match="archives: it does not name a host and a port") as refused:
        plan(tmp_path, archives=["deb http://ann:s3/cr3t@h/x ./"])
    assert "cr3t" not in str(refused.value)


def test_roots_of_different_archives_and_keys_have_different_files(tmp_path: Path) -> None:
    """Which of them is an archive and which a key counts."""
    lists: list[tuple[list[str], list[str]]] = [
        (["deb a", "keys"], ["Yg=="]),
        (["deb a"], ["keys", "Yg=="]),
        (["deb a", "keys", "Yg=="], []),
        ([], []),
    ]
    found = {files(plan(tmp_path, archives=archives, trusted_keys=trusted)) for archives, trusted in lists}
    assert len(found) == len(lists)
