"""What change-builder does, and how builders and builds with tags are shown."""

from pathlib import Path

import pytest

from buildmaster.cli.tests.conftest import Cli, make_source


@pytest.fixture
def with_builder(ready: Cli) -> Cli:
    ready("add-builder", "http://127.0.0.1:1/", "--name", "local", "--offline", "--architecture", "amd64")
    return ready


def test_tags(with_builder: Cli) -> None:
    """Tags that are given replace those that there were; without a word of them they stay."""
    said = with_builder("change-builder", "local", "--tag", "large", "--restricted-tag", "gpu").out
    assert said == "builder local: amd64; has large; kept for builds that need gpu\n"
    assert with_builder("change-builder", "local", "--manual", "--json").json["tags"] == ["large"]
    document = with_builder("change-builder", "local", "--tag", "x", "--automatic", "--json").json
    assert (document["tags"], document["restricted_tags"], document["manual"]) == (["x"], [], False)
    assert with_builder("change-builder", "local", "--no-tags").out == "builder local: amd64\n"


def test_what_cannot_be(with_builder: Cli) -> None:
    """A word that is no tag, a builder that is not there, and contradictions are told; nothing is changed."""
    assert "'A B' is no resource tag" in with_builder("change-builder", "local", "--tag", "A B", status=1).err
    assert "no builder is called" in with_builder("change-builder", "other", "--tag", "a", status=1).err
    with_builder("change-builder", "local", "--tag", "a", "--no-tags", status=2)
    assert with_builder("change-builder", "local", "--json").json["tags"] == []


def test_why_it_waits(with_builder: Cli, tmp_path: Path) -> None:
    """The queue says that no builder has what a build needs, or that all are kept for others."""
    with_builder("submit", make_source(tmp_path, "needs"), "--needs", "gpu", "--needs", "large")
    assert "no builder for amd64 that has gpu, large" in with_builder("queue").out
    assert "gpu large" in with_builder("show", 1).out
    assert with_builder("show", 1, "--json").json["tags"] == ["gpu", "large"]
    with_builder("submit", make_source(tmp_path, "plain"))
    with_builder("change-builder", "local", "--restricted-tag", "gpu")
    assert "every builder for amd64 is kept for builds that need its tags" in with_builder("queue").out


def test_a_virtualised_builder(ready: Cli) -> None:
    """Its host is told when it is added, or later; it is clean only when a reset is going on."""
    words = ("--virtualised", "--vm-host", "vm-host-1", "--offline", "--architecture", "amd64", "--name", "vm")
    assert ready("add-builder", "http://127.0.0.1:1/", *words, "--json").json["vm_host"] == "vm-host-1"
    assert ready("change-builder", "vm", "--vm-host", "other").out == "builder vm: virtualised amd64; on other\n"
    assert "'-x' is no name of a host" in ready("change-builder", "vm", "--vm-host", "-x", status=1).err
    assert "builder 'vm' is not being reset: it is dirty" in ready("builder-cleaned", "vm", status=1).err


def test_a_virtualised_builder_that_is_not_reset(ready: Cli, tmp_path: Path) -> None:
    """Who adds one is told when nothing resets it."""
    words = ("--virtualised", "--offline", "--architecture", "amd64")
    assert "is cleaned between builds, as others are" in ready("add-builder", "http://vm1:8221/", *words).err
    with (tmp_path / "test.conf").open("a") as config:
        config.write("[builders]\nreset_command = reset {host}\n")
    configured = ("add-builder", "http://vm2:8221/", *words)
    assert "`buildmaster change-builder vm2 --vm-host HOST`" in ready(*configured).err
    assert "cleaned" not in ready(*configured, "--vm-host", "host1").err


def test_give(with_builder: Cli, tmp_path: Path) -> None:
    """A build is given by its number and the builder's name, and shown there until it is taken."""
    with_builder("submit", make_source(tmp_path, "hello"))
    with_builder("change-builder", "local", "--manual")
    assert with_builder("give", 1, "local").out == "builder local will build 1 next\n"
    assert with_builder("builders", "--json").json["builders"][0]["given"] == 1
    assert "given build 1" in with_builder("builders").out
    assert "build 7 is not waiting for a builder" in with_builder("give", 7, "local", status=1).err
