"""Who is to blame for a failure."""

import pytest

from buildmaster.blame import BuilderVerdict, JobVerdict, Verdict, judge, judge_builder

B, J = BuilderVerdict, JobVerdict


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
