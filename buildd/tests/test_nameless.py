"""Files that have no name any more."""

import os
from pathlib import Path

import pytest

from buildd import processes
from buildd.nameless import nameless_bytes


@pytest.mark.skipif(os.geteuid() != 0, reason="others enter a build's user namespace, as ftests/test_limits.py has it")
def test_files_without_a_name_take_space_as_others_do(tmp_path: Path) -> None:
    """Once each, however often they are open; not those that have a name, nor what is in memory only."""
    myself = processes.look(os.getpid())
    assert myself is not None
    before = nameless_bytes([myself])
    with (tmp_path / "gone").open("wb") as gone, (tmp_path / "named").open("wb") as named:
        memory, again = os.memfd_create("m"), os.dup(gone.fileno())
        (tmp_path / "gone").unlink()
        for file in (gone.fileno(), named.fileno(), memory):
            os.write(file, bytes(1 << 20))
        os.fsync(gone.fileno())
        found = nameless_bytes([myself])
        os.close(memory)
        os.close(again)
    assert found - before == 1 << 20


def test_a_process_that_has_ended_has_nothing_open() -> None:
    """Nor is there anything to be found where there is none."""
    assert nameless_bytes([]) == 0
    assert nameless_bytes([processes.Process(2**22 + 1, 1, "sh", "S", 1)]) == 0
