"""What the doctor says of machines that lack something."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from buildd import doctor
from buildd.config import BuilddConfig, IsolationName, read_config
from buildd.doctor import Finding, Machine, Verdict
from buildd.tests.running import CHECKOUT


@dataclass(frozen=True)
class FakeMachine(Machine):
    """Its files are below `root`; commands complain as told, by the first of these words that is in them."""

    complaints: dict[str, str] = field(default_factory=dict)

    def complaint(self, argv: Sequence[str], directory: Path | None = None) -> str | None:
        return next((said for word, said in self.complaints.items() if word in " ".join(argv)), None)


@pytest.fixture
def machine(tmp_path: Path) -> FakeMachine:
    """One that has all that builds need."""
    files = {
        "etc/subuid": f"somebody:1:65536\n{os.geteuid()}:100000:65536\n",
        "etc/subgid": f"{os.geteuid()}:100000:65536\n",
        "proc/sys/kernel/seccomp/actions_avail": "kill_process errno",
        "proc/self/ns/user": "",
        "proc/meminfo": "MemTotal:        8388608 kB\nMemFree: 1 kB\nSwapTotal:       2097152 kB\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return FakeMachine(tmp_path, lambda name: f"/usr/bin/{name}")


@pytest.fixture
def config(tmp_path: Path) -> BuilddConfig:
    return read_config(None, {"DEBFARM_BUILDD_ALLOW_ROOT": "yes", "DEBFARM_BUILDD_DIRECTORY": str(tmp_path / "buildd")})


def faults(machine: Machine, config: BuilddConfig) -> list[Finding]:
    return [finding for finding in doctor.examine(config, machine) if finding.verdict is Verdict.FAULT]


def test_a_machine_that_has_everything(machine: FakeMachine, config: BuilddConfig) -> None:
    """No fault."""
    assert faults(machine, config) == []


def test_programs_that_are_missing(machine: FakeMachine, config: BuilddConfig) -> None:
    """The packages to install, each once."""
    lacking = replace(machine, which=lambda name: None if name in ("newuidmap", "newgidmap", "sbuild") else name)
    (fault,) = faults(lacking, config)
    assert fault.what == "programs: no newuidmap, newgidmap, sbuild"
    assert fault.advice == "apt install sbuild uidmap"


@pytest.mark.parametrize(("memory", "verdict"), [(10 << 30, Verdict.OK), ((10 << 30) + 1, Verdict.WARNING)])
def test_more_memory_for_a_build_than_there_is(
    machine: FakeMachine, config: BuilddConfig, memory: int, verdict: Verdict
) -> None:
    """Swap included. Such a limit is never reached; what to set instead."""
    (finding,) = doctor.limits_in_force(replace(config, memory_bytes=memory), machine)
    assert finding.verdict is verdict
    assert finding.what.startswith("memory: 8G in this machine, 2G of swap; 10G for a build")
    assert finding.advice.startswith("[limits] memory = 10240M at most" if verdict is Verdict.WARNING else "")


def test_little_memory(machine: FakeMachine, config: BuilddConfig) -> None:
    """Enough for small packages, if at all."""
    (machine.root / "proc/meminfo").write_text("MemTotal: 1048000 kB\nSwapTotal: 0 kB\n")
    (finding,) = doctor.limits_in_force(replace(config, memory_bytes=1 << 20), machine)
    assert finding.verdict is Verdict.WARNING


@pytest.mark.parametrize("text", ["", "somebody:1:65536\n", "{me}:1:1000\n", "{me}:1\nrubbish\n"])
def test_too_few_subordinate_ids(machine: FakeMachine, config: BuilddConfig, text: str) -> None:
    """The command that gives some."""
    (machine.root / "etc/subuid").write_text(text.format(me=os.geteuid()))
    (fault,) = faults(machine, config)
    assert "/etc/subuid" in fault.what
    assert "usermod --add-subuids" in fault.advice


def test_namespaces_that_are_forbidden(machine: FakeMachine, config: BuilddConfig) -> None:
    """What forbids them, as far as it can be seen."""
    (machine.root / "proc/sys/kernel/unprivileged_userns_clone").write_text("0\n")
    (machine.root / "proc/sys/kernel/apparmor_restrict_unprivileged_userns").write_text("1\n")
    ill = replace(machine, complaints={"--net true": "unshare: unshare failed: Operation not permitted"})
    namespaces, apparmor = faults(ill, config)
    assert namespaces.what.endswith("Operation not permitted")
    assert "kernel.unprivileged_userns_clone=1" in namespaces.advice
    assert "apparmor_restrict_unprivileged_userns=0" in apparmor.advice


def test_where_no_namespace_can_be_made_nothing_is_tried_in_one(machine: FakeMachine, config: BuilddConfig) -> None:
    """unshare would wait for ever for what it cannot have."""
    ill = replace(machine, complaints={"unshare --user true": "not permitted", "--map-auto": "it waits for ever"})
    (namespaces,) = faults(ill, config)
    assert namespaces.what.endswith("not permitted")


def test_no_overlay_on_this_file_system(machine: FakeMachine, config: BuilddConfig) -> None:
    """Told with the directory that it is about."""
    (fault,) = faults(replace(machine, complaints={"overlay": "mount: wrong fs type"}), config)
    assert str(config.directory) in fault.what
    assert "ext4" in fault.advice


def test_no_filters_of_system_calls(machine: FakeMachine, config: BuilddConfig) -> None:
    """The kernel's part and Python's."""
    (fault,) = faults(replace(machine, complaints={"import seccomp": "ModuleNotFoundError"}), config)
    assert fault.advice == "apt install python3-seccomp"
    (machine.root / "proc/sys/kernel/seccomp/actions_avail").unlink()
    (fault,) = faults(machine, config)
    assert "CONFIG_SECCOMP_FILTER" in fault.advice


def test_a_wrong_clock() -> None:
    """It is a fault."""
    (fault,) = doctor.clock(datetime(1999, 1, 1, tzinfo=UTC))
    assert fault.verdict is Verdict.FAULT


def test_an_address_that_others_reach(machine: FakeMachine, config: BuilddConfig) -> None:
    """The protocol knows no passwords."""
    (note,) = doctor.address(replace(config, host=""))
    assert "whoever connects can give orders" in note.what


def test_a_finding_as_people_read_it() -> None:
    """The verdict first, the advice below."""
    assert doctor.shown(Finding(Verdict.FAULT, "programs: no tar", "apt install tar")) == (
        "fault     programs: no tar\n          => apt install tar\n"
    )


def test_the_command(tmp_path: Path) -> None:
    """It looks at this machine, and its exit status is 1 exactly when there is a fault."""
    argv = [sys.executable, "-W", "ignore", "-m", "buildd", "--dir", str(tmp_path), "doctor"]
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=CHECKOUT, check=False)
    assert ended.returncode == int("\nfault " in f"\n{ended.stdout}"), ended
    assert ended.stdout.endswith(("Builds can run here.\n", " to mend.\n"))


@pytest.mark.parametrize(("isolation", "wanted"), [("unshare", ["newuidmap"]), ("podman", ["podman", "crun"])])
def test_programs_of_the_isolation(
    machine: FakeMachine, config: BuilddConfig, isolation: str, wanted: list[str]
) -> None:
    """Each needs some that others do not."""
    lacking = replace(machine, which=lambda name: None if name in ("newuidmap", "podman", "crun") else name)
    (finding,) = doctor.programs(IsolationName(isolation), lacking)
    assert finding.verdict is Verdict.FAULT
    assert finding.what == f"programs: no {', '.join(wanted)}"


def test_root_needs_no_user_namespaces(machine: FakeMachine, config: BuilddConfig) -> None:
    """Nor subordinate ids, nor a kernel that has overlays in them."""
    old = replace(machine, complaints={"--user": "no such thing", "userxattr": "no such thing"})
    old.root.joinpath("etc/subuid").unlink()
    assert len(faults(old, config)) >= 2
    of_root = replace(config, isolation=IsolationName.CHROOT)
    assert faults(old, of_root) == ([] if os.geteuid() == 0 else [next(iter(doctor.user(of_root)))])
