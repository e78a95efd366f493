"""Where the master's log goes, and how much of it."""

import sys

from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from buildmaster.cli.group import Session


def begin_logging(session: Session) -> None:
    """Send the log to --log-file or stderr: warnings with -q, also details with -v.

    :raises OSError: the file cannot be opened.
    """
    level = {-1: LogLevel.warn, 0: LogLevel.info}.get(session.verbosity, LogLevel.debug)
    if session.debug:
        level = LogLevel.debug
    stream = session.log_file.open("a", encoding="utf-8") if session.log_file else sys.stderr
    observer = FilteringLogObserver(textFileLogObserver(stream), [LogLevelFilterPredicate(defaultLogLevel=level)])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
