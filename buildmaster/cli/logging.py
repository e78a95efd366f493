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

# What Twisted says: its older parts, and those of which ours are made, have names of their own.
_TWISTED = ("twisted", "log_legacy", "buildmaster.uploading.sftp", "buildmaster.uploading.ssh")


def begin_logging(session: Session) -> None:
    """Send the log to --log-file or stderr: warnings only with -q; with -v also details, and what Twisted says.

    :raises OSError: the file cannot be opened.
    """
    level = {-1: LogLevel.warn, 0: LogLevel.info}.get(session.verbosity, LogLevel.debug)
    if session.debug:
        level = LogLevel.debug
    wanted = LogLevelFilterPredicate(defaultLogLevel=level)
    if level is LogLevel.info:  # It tells of every connection that it begins and ends.
        for words in _TWISTED:
            wanted.setLogLevelForNamespace(words, LogLevel.warn)
    stream = session.log_file.open("a", encoding="utf-8") if session.log_file else sys.stderr
    observer = FilteringLogObserver(textFileLogObserver(stream), [wanted])
    globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
