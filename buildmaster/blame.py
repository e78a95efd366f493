"""Who is to blame for a failure, the builder or the build? A pure verdict; buildmaster.recovery carries it out.

Both are counted: how often in a row the builder has failed, and the build. A builder that failed more often than the
build it has is likely the broken one, and the other way round. The table is Launchpad's; two flaws around it are
mended elsewhere: a builder's count is zeroed when a build *ends* properly there, not when one begins (gathering.py);
and a build is not sent back to the builder that lost it while another could take it (queue.candidates), nor, when no
other could, counted against for that again before that builder has ended another properly (recovery.py). A builder that
says itself that it failed is judged alone, until the build has broken several.

Failures of fresh builds would go up to five until a builder is out of service, and of a builder that forgets each build
nobody would be to blame. So the builds that a builder loses one after the other are counted as well, in whichever way:
the third is the last.

A builder that says BUILDING for ever, whatever the daemon's own limits, would keep its build. So the master has a
limit, too, far above these: a build that a builder has had for longer is taken away, and one failure counted against
both, without a second look. So a package that hangs wherever it is built has failed on the second builder, or the
second time on the only one, if others end well there; and a builder on which all hangs is out of service after the
third build.

A builder that is not heard of at all is judged by the clock, and not by how often it was asked: refused connections
come back at once and silence takes a timeout each, so that fifteen failures were 45 seconds of one and ten minutes of
the other. A daemon that is started anew fails nothing.
"""

from dataclasses import dataclass
from enum import StrEnum

RETRIES = 3  # A failure that both share is tried again where it is, until there were this many.
DISABLE_AT = 5  # A builder that failed this often in a row is taken out of service.
BREAKDOWNS = 3  # A build with which so many builders said that they had failed is to blame.
LOSSES = 3  # A builder that lost so many builds, and ended none properly between, is taken out of service.
GRACE = 5  # So many scans in a row must fail before that is one failure; see scanner.py.


class Trouble(StrEnum):
    """How a builder failed a scan."""

    WRONG = "wrong"  # It answered, and not as it should.
    GONE = "gone"  # Connections are refused or reset: nothing listens there any more, or not yet again.
    SILENT = "silent"  # Nothing comes back: its machine hangs, or the network does not reach it.


@dataclass(frozen=True)
class Unheard:
    """For how long nothing has been heard of a builder."""

    seconds: float
    tries: int  # Requests that failed since.


@dataclass(frozen=True)
class Patience:
    """For how long a builder may not be heard of before its build is given to another, in seconds.

    Counted from when it was last heard, which may be a pause of 15 s before it went away.
    """

    gone_s: float = 50.0  # A daemon is started anew in 20.
    silent_s: float = 150.0


_TRIES = 3  # It is lost after so many at the soonest: it may have been the master that stood still.


def is_lost(trouble: Trouble, unheard: Unheard, patience: Patience) -> bool:
    """Whether a builder that failed a scan so is to lose its build for not being heard of."""
    if trouble is Trouble.WRONG or unheard.tries < _TRIES:
        return False
    return unheard.seconds >= (patience.gone_s if trouble is Trouble.GONE else patience.silent_s)


def is_failure(trouble: Trouble, errors: int, *, has_job: bool, lost: bool) -> bool:
    """Whether scans that failed are one failure by now.

    :param errors: how many in a row, the last of them so.
    :param lost: see is_lost(); where there is a build, nothing else makes a failure of not being heard.
    """
    if has_job and trouble is not Trouble.WRONG:
        return lost
    return errors >= GRACE


class BuilderVerdict(StrEnum):
    """What becomes of the builder."""

    NOTHING = "nothing"  # It goes on.
    CLEAN = "clean"  # Whatever it holds is stopped and thrown away.
    FORGIVE = "forgive"  # It is not to blame: its count is set to 0.
    DISABLE = "disable"  # Out of service, until a person looks at it.


class JobVerdict(StrEnum):
    """What becomes of the build. While it is being cancelled, the lifecycle makes CANCELLED of the last two."""

    NOTHING = "nothing"  # It stays with its builder.
    REQUEUE = "requeue"  # Back into the queue.
    FAIL = "fail"  # It is to blame.


@dataclass(frozen=True)
class Verdict:
    """What becomes of both."""

    builder: BuilderVerdict
    job: JobVerdict


def judge(builder_failures: int, job_failures: int, *, may_retry: bool, isolation_error: bool = False) -> Verdict:
    """Judge a failure that is counted already.

    :param builder_failures: in a row, this one included.
    :param job_failures: likewise; 0 when the builder has no build.
    :param may_retry: the build may still run there, so that looking again could help.
    :param isolation_error: the builder is not what the database says: it may hold something of another build.
    """
    if isolation_error:
        return Verdict(BuilderVerdict.DISABLE, JobVerdict.FAIL)
    if builder_failures == job_failures:
        again = may_retry and builder_failures < RETRIES
        return Verdict(BuilderVerdict.NOTHING, JobVerdict.NOTHING if again else JobVerdict.REQUEUE)
    if builder_failures < job_failures:
        return Verdict(BuilderVerdict.FORGIVE, JobVerdict.FAIL)
    return judge_builder(builder_failures)


def judge_builder(failures: int, breakdowns: int = 0) -> Verdict:
    """Judge a failure that is the builder's alone, as it says itself. The build is requeued; but what breaks one
    builder after the other must not go through the whole farm.

    :param failures: of the builder, in a row, this one included.
    :param breakdowns: of builders that had the build, this one included.
    """
    builder = BuilderVerdict.DISABLE if failures >= DISABLE_AT else BuilderVerdict.CLEAN
    if breakdowns < BREAKDOWNS:
        return Verdict(builder, JobVerdict.REQUEUE)
    return Verdict(BuilderVerdict.FORGIVE if failures == 1 else builder, JobVerdict.FAIL)


def weigh_losses(verdict: Verdict, losses: int) -> Verdict:
    """The verdict when a build is lost by it.

    :param losses: how many builds the builder has lost since it last ended one properly, this one included; none that
        it lost twice in a row is counted twice.
    """
    if verdict.job is JobVerdict.REQUEUE and losses >= LOSSES:
        return Verdict(BuilderVerdict.DISABLE, JobVerdict.REQUEUE)
    return verdict
