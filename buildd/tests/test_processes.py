"""What is found out about processes, from a /proc that a test made."""

import os
from pathlib import Path

from buildd import processes


class FakeProc:
    """A directory that looks like /proc."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, pid: int, parent: int, name: str = "sh", state: str = "S", wchan: str = "0", **more: int) -> None:
        """A process; more: threads; and in kB what is its own, what it shares, and its part of both."""
        place = self.path / str(pid)
        place.mkdir()
        fields = [state, str(parent), *["0"] * 15, str(more.get("threads", 1)), "0", "1234"]
        (place / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
        status = {"VmRSS": 9999, "RssAnon": more.get("own", 0), "RssShmem": more.get("shared", 0), "RssFile": 7}
        (place / "status").write_text("".join(f"{key}:\t{value} kB\n" for key, value in status.items()) + "Seccomp:\n")
        (place / "wchan").write_text(wchan)
        if "part" in more:
            (place / "smaps_rollup").write_text(f"0-f ---p [rollup]\nRss: 9 kB\nPss_Anon: {more['part']} kB\n")


def test_how_many_the_kernel_has_ended(tmp_path: Path) -> None:
    """This machine's has the count, since Linux 4.13; where it is masked there is none."""
    (tmp_path / "vmstat").write_text("oom_kill_x 9\noom_kill 3\n")
    assert processes.oom_kills(tmp_path) == 3
    assert processes.oom_kills(tmp_path / "masked") == 0
    assert "\noom_kill " in Path("/proc/vmstat").read_text()


def test_all_that_descends_from_a_process(tmp_path: Path) -> None:
    """However deep, whatever they call themselves; no others."""
    proc = FakeProc(tmp_path)
    for pid, parent in ((10, 1), (11, 10), (12, 11), (99, 1), (9, 12)):
        proc.add(pid, parent, name="a) S 1 (b")
    (tmp_path / "self").mkdir()
    (tmp_path / "13").mkdir()  # Has ended at this moment.
    found = processes.below(10, tmp_path)
    assert sorted(process.pid for process in found) == [9, 10, 11, 12]
    assert {process.name for process in found} == {"a) S 1 (b"}
    assert processes.below(500, tmp_path) == []


def test_memory_is_summed_quickly_as_long_as_that_is_less_than_the_limit(tmp_path: Path) -> None:
    """What files are mapped is left out."""
    proc = FakeProc(tmp_path)
    proc.add(1, 0, own=50, part=1)
    proc.add(2, 1, own=8, shared=2, part=1)
    assert processes.memory_bytes(processes.below(1, tmp_path), 60 << 10, tmp_path) == 60 << 10


def test_memory_that_is_shared_since_a_fork_counts_once(tmp_path: Path) -> None:
    """Ten children of a large program are not ten large programs."""
    proc = FakeProc(tmp_path)
    for pid in range(1, 11):
        proc.add(pid, pid - 1, own=100, part=40)
    found = processes.below(1, tmp_path)
    assert processes.memory_bytes(found, 500 << 10, tmp_path) == 10 * 40 << 10


def test_what_cannot_be_ended_is_named(tmp_path: Path) -> None:
    """Those in uninterruptible sleep first, with what they wait for; what has ended is not named."""
    proc = FakeProc(tmp_path)
    proc.add(1, 0)
    proc.add(2, 1, name="ccache\n", state="D", wchan="nfs_wait_bit_killable")
    proc.add(3, 1, name="gone", state="Z")
    named = processes.stuck(processes.below(1, tmp_path), tmp_path)
    assert named == "2 (ccache?, in uninterruptible sleep, in nfs_wait_bit_killable), 1 (sh, state S)"
    for pid in range(10, 20):
        proc.add(pid, 1)
    assert processes.stuck(processes.below(1, tmp_path), tmp_path).endswith(" and 7 more")
    assert processes.stuck([], tmp_path) == ""


def test_real_processes() -> None:
    """This very process is there, with its threads, its memory and its user's."""
    (this,) = (process for process in processes.below(os.getpid()) if process.pid == os.getpid())
    assert this.parent == os.getppid()
    assert processes.threads_of(os.getuid()) >= this.threads >= 1
    quick = processes.memory_bytes([this], 1 << 50)
    exact = processes.memory_bytes([this], 0)
    assert 1 << 20 < exact < quick + (8 << 20)  # The kernel counts quickly, not exactly, at first.
