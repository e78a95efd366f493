"""What rebuild does."""

from pathlib import Path

import pytest

from buildmaster.cli.tests.conftest import Cli, make_source
from buildmaster.tests.factories import write_source

ADA = ("--maintainer", "Ada <ada@example.org>")


def test_a_rebuild(ready: Cli, tmp_path: Path) -> None:
    """A source that has not changed is built again; `show` says why."""
    ready("submit", make_source(tmp_path, "hello"))
    assert ready("rebuild", "hello", "--reason", "New libc", *ADA).out == "hello 1.0+b1: 1 build: 2\n"
    (build,) = ready("rebuild", "hello", "--reason", "Once more", *ADA, "--json").json["builds"]
    assert build["rebuild"] == {"number": 2, "reason": "Once more", "maintainer": "Ada <ada@example.org>"}
    assert "+b2: Once more" in ready("show", 3).out
    for words in ("queue", "builds"):
        assert "hello 1.0+b2  primary" in ready(words).out


def test_who_says_so(ready: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody rebuilds, as devscripts would say who."""
    monkeypatch.setenv("DEBFULLNAME", "Grace")
    monkeypatch.setenv("DEBEMAIL", "grace@example.org")
    ready("submit", make_source(tmp_path, "hello"))
    (build,) = ready("rebuild", "hello", "--reason", "x", "--json").json["builds"]
    assert build["rebuild"]["maintainer"] == "Grace <grace@example.org>"


def test_dependants(ready: Cli, tmp_path: Path) -> None:
    """All that build-depends on a package is rebuilt, or just told."""
    for name in ("one", "two"):
        ready("submit", write_source(tmp_path, name, relations="Build-Depends: libfoo-dev"))
    ready("submit", make_source(tmp_path, "three"))
    words = ("rebuild", "--reason", "x", *ADA, "--build-depends-on", "libfoo-dev")
    assert ready(*words, "--dry-run").out == "one\ntwo\n"
    assert [build["source"] for build in ready(*words, "--json").json["builds"]] == ["one", "two"]
    assert ready("rebuild", "--reason", "x", *ADA, "--depends-on", "libbar").out == "nothing depends on it\n"


def test_what_cannot_be(ready: Cli, tmp_path: Path) -> None:
    """One that is named and cannot be rebuilt is told, after the others are."""
    ready("submit", make_source(tmp_path, "hello"))
    ready("submit", write_source(tmp_path, "doc", architectures="all"))
    said = ready("rebuild", "doc", "none", "hello", "--reason", "x", *ADA, status=1)
    assert said.out.startswith("hello 1.0+b1: 1 build") and "upload a new version" in said.err and "'none'" in said.err
    assert "name sources" in ready("rebuild", "--reason", "x", status=2).err
    assert "maintainer is not NAME" in ready("rebuild", "hello", "--reason", "x", "--maintainer", "ada", status=1).err
