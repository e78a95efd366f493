"""python3 -m buildd: the daemon, where the command debfarm-buildd is not installed."""

import sys

from buildd.service import main

sys.exit(main())
