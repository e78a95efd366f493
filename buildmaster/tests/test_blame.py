"""Who is to blame for a failure."""

import pytest

from buildmaster.blame import (
    GRACE,
    BuilderVerdict,
    JobVerdict,
    Patience,
    Trouble,
    Unheard,
    Verdict,
    is_failure,
    is_lost,
    judge,
    judge_builder,
    weigh_losses,
)

B, J, T = BuilderVerdict, JobVerdict, Trouble


@pytest.mark.parametrize(
    ("builder", "job", "may_retry", "isolation", "verdict"),
    [
        (1, 1, False, True, Verdict(B.DISABLE, J.FAIL)),
        (5, 0, True, True, Verdict(B.DISABLE, J.FAIL)),
        (1, 1, True, False, Verdict(B.NOTHING, J.NOTHING)),
        (2, 2, True, False, Verdict(B.NOTHING, J.NOTHING)),
        (3, 3, True, False, Verdict(B.NOTHING, J.REQUEUE)),
        (1, 1, False, False, Verdict(B.NOTHING, J.REQUEUE)),
        (7, 7, True, False, Verdict(B.NOTHING, J.REQUEUE)),
        (1, 0, True, False, Verdict(B.CLEAN, J.REQUEUE)),
        (4, 1, False, False, Verdict(B.CLEAN, J.REQUEUE)),
        (5, 0, True, False, Verdict(B.DISABLE, J.REQUEUE)),
        (5, 4, True, False, Verdict(B.DISABLE, J.REQUEUE)),
        (1, 2, True, False, Verdict(B.FORGIVE, J.FAIL)),
        (4, 9, False, False, Verdict(B.FORGIVE, J.FAIL)),
    ],
)
def test_the_table(builder: int, job: int, may_retry: bool, isolation: bool, verdict: Verdict) -> None:
    """The verdict is that of the table in the master's specification."""
    assert judge(builder, job, may_retry=may_retry, isolation_error=isolation) == verdict


def test_a_builder_that_fails_every_job_ends_out_of_service() -> None:
    """Five fresh builds in a row fail on one builder: it is taken out of service, and all five are queued again."""
    verdicts = [judge(failures, 1, may_retry=False) for failures in range(1, 6)]
    assert verdicts[-1].builder is B.DISABLE
    assert {verdict.job for verdict in verdicts} == {J.REQUEUE}


def test_a_build_that_breaks_builders_is_to_blame() -> None:
    """A build that fails on a second builder, which serves others well, has failed."""
    assert judge(1, 2, may_retry=False) == Verdict(B.FORGIVE, J.FAIL)


@pytest.mark.parametrize(
    ("failures", "breakdowns", "verdict"),
    [
        (1, 1, Verdict(B.CLEAN, J.REQUEUE)),
        (4, 2, Verdict(B.CLEAN, J.REQUEUE)),
        (5, 2, Verdict(B.DISABLE, J.REQUEUE)),
        (1, 3, Verdict(B.FORGIVE, J.FAIL)),
        (4, 3, Verdict(B.CLEAN, J.FAIL)),
        (5, 3, Verdict(B.DISABLE, J.FAIL)),
    ],
)
def test_a_builder_that_says_it_has_failed(failures: int, breakdowns: int, verdict: Verdict) -> None:
    """The builder's fault, until a third builder says so of the same build: what breaks all is no builder."""
    assert judge_builder(failures, breakdowns) == verdict


@pytest.mark.parametrize(
    ("trouble", "seconds", "tries", "lost"),
    [
        (T.GONE, 20, 7, False),  # A daemon that is started anew.
        (T.GONE, 49, 15, False),
        (T.GONE, 50, 16, True),
        (T.SILENT, 50, 2, False),
        (T.SILENT, 149, 4, False),
        (T.SILENT, 150, 4, True),
        (T.SILENT, 600, 2, False),  # It was the master that stood still.
        (T.GONE, 600, 1, False),
        (T.WRONG, 600, 9, False),  # It talks.
    ],
)
def test_a_builder_that_is_not_heard_of(trouble: Trouble, seconds: float, tries: int, lost: bool) -> None:
    """It loses its build by the clock, sooner when its machine says that nothing listens there."""
    assert is_lost(trouble, Unheard(seconds, tries), Patience()) is lost


def test_how_often_does_not_count_while_it_is_waited_for() -> None:
    """However often a builder with a build was asked in vain: that is one failure when it is lost, none before."""
    for trouble in (T.GONE, T.SILENT):
        assert not is_failure(trouble, 100, has_job=True, lost=False)
        assert is_failure(trouble, 1, has_job=True, lost=True)


def test_errors_in_a_row() -> None:
    """Answers that are wrong, and a builder without a build that is away, are a failure when there were five."""
    for trouble, has_job in ((T.WRONG, True), (T.WRONG, False), (T.GONE, False), (T.SILENT, False)):
        counts = [is_failure(trouble, errors, has_job=has_job, lost=False) for errors in range(1, GRACE + 1)]
        assert counts == [False] * (GRACE - 1) + [True]


@pytest.mark.parametrize("table", [judge(1, 1, may_retry=False), judge(2, 1, may_retry=False), judge_builder(3)])
def test_the_third_build_that_it_loses_is_the_last(table: Verdict) -> None:
    """Whatever the table says of a builder, it is out of service when a third build in a row is lost by it."""
    assert weigh_losses(table, 2) == table
    assert weigh_losses(table, 3) == Verdict(B.DISABLE, J.REQUEUE)


@pytest.mark.parametrize("table", [judge(1, 2, may_retry=False), judge(1, 1, may_retry=True)])
def test_what_is_not_lost_does_not_count(table: Verdict) -> None:
    """A build that has failed, or stays where it is, is no loss."""
    assert weigh_losses(table, 9) == table
