"""Masters as processes of their own, for tests that end them.

They are forked from one process that has imported everything, so that none takes a second of a processor to start.
"""

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from twisted.logger import globalLogBeginner, textFileLogObserver

from buildmaster import notifying, queue, recovery, service
from buildmaster.store import s3
from buildmaster.tests import points, stores
from buildmaster.tests.factories import config_of

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload([__name__, "sqlalchemy.dialects.sqlite", "psycopg", "twisted.web.client"])
if not stores.IN_A_FOLDER:  # What each would read by its first use of boto3, in a quarter of a second.
    s3._client(s3.Bucket("none", endpoint="http://localhost"), s3.Credentials("", ""))

PACE = {"poll_fastest_s": 0.05, "poll_slowest_s": 0.3, "database_poll_s": 0.05, "rpc_timeout_s": 20.0, "lease_s": 1.5}


def start_master(directory: Path, log: Path, die_at: str = "", side: str = "", **settings: Any) -> BaseProcess:
    """Start a master of the farm that make_farm() made in a directory.

    :param log: what it says is appended to this.
    :param die_at: the name of a point; it ends there, with status points.DIED.
    :param settings: of its configuration.
    """
    arguments = (directory, log, die_at, side, PACE | settings)
    process = _processes.Process(target=_run, args=arguments, daemon=True)
    process.start()
    return process


def _run(directory: Path, log: Path, die_at: str, side: str, settings: dict[str, Any]) -> None:
    with log.open("ab", buffering=0) as stream:
        os.dup2(stream.fileno(), 2)
    globalLogBeginner.beginLoggingTo([textFileLogObserver(sys.stderr)], redirectStandardIO=False)
    points.arm(die_at, side)
    # What waits for people and for machines that are started anew need not wait here.
    notifying._LOOK_S = 0.1
    queue._BACK_OFF_S = recovery.PAUSE_S = 0.1
    service.run(config_of(directory, port=0, **settings))
