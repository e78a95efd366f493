"""python3 -m buildd: the daemon, where the command debfarm-buildd is not installed."""

import sys

from buildd.commands import main

sys.exit(main())
