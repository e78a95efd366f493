"""What holds builds on this machine, and what that leaves to be found out otherwise."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from twisted.internet.task import Clock

from buildd import cgroups, processes
from buildd.cgroups import Groups, Hierarchy
from buildd.config import BuilddConfig
from buildd.enforcement import Enforcement
from buildd.tests.test_guard import at_once


@pytest.mark.parametrize(("controllers", "kills"), [(("memory", "pids"), 0), (("pids",), 7), ((), 7)])
def test_whose_processes_the_kernel_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, controllers: Sequence[str], kills: int
) -> None:
    """What it ends of others is nothing to a build in a group of its own, of which the kernel says what it ended."""
    monkeypatch.setattr(processes, "oom_kills", lambda: 7)
    groups = Groups((Hierarchy(2, tmp_path, tuple(controllers)),), ())
    monkeypatch.setattr(cgroups, "probe", lambda wanted, name: groups)
    enforcement = Enforcement(BuilddConfig(directory=tmp_path, architecture="amd64", label="x"), Clock(), at_once)
    enforcement.start()
    assert enforcement.oom_kills() == kills
