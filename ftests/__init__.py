"""Stories that an operator would tell, of real daemons and masters, over HTTP and the command line only."""

from harness import BuilddSlaveTestSetup, BuilddTestSetup, FarmTestSetup, FileServer

__all__ = ["BuilddSlaveTestSetup", "BuilddTestSetup", "FarmTestSetup", "FileServer"]
