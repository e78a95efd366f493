"""The state machine of a build."""

import pytest

from buildmaster.lifecycle import (
    ACTIVE,
    ENDED,
    PENDING,
    QUEUED,
    RETRIABLE,
    TRANSITIONS,
    BuildState,
    Event,
    ImpossibleTransition,
    after,
    why_refused,
)

S, E = BuildState, Event


def test_every_state_can_be_reached() -> None:
    """From NEEDS_BUILD, every state can be reached by events."""
    reached = {S.NEEDS_BUILD}
    while more := {new for (old, _), new in TRANSITIONS.items() if old in reached} - reached:
        reached |= more
    assert reached == set(BuildState)


@pytest.mark.parametrize("state", BuildState)
@pytest.mark.parametrize("event", Event)
def test_every_event_is_answered_or_refused(state: BuildState, event: Event) -> None:
    """Each state takes an event, or refuses it by one error that names both."""
    if (state, event) in TRANSITIONS:
        assert after(state, event) in BuildState
        return
    with pytest.raises(ImpossibleTransition) as refused:
        after(state, event)
    assert (refused.value.state, refused.value.event) == (state, event)
    assert str(state) in str(refused.value) and str(event) in str(refused.value)
    assert str(refused.value).endswith(why_refused(state, event))


def test_every_event_happens_somewhere() -> None:
    """No event is refused by all states."""
    assert {event for _, event in TRANSITIONS} == set(Event)


def test_every_state_but_built_leads_on() -> None:
    """A build is never stuck: only BUILT takes no event at all."""
    assert set(BuildState) - {old for old, _ in TRANSITIONS} == {S.BUILT}


def test_a_state_is_of_one_kind() -> None:
    """A build is queued, active or ended."""
    assert set(BuildState) == QUEUED | ACTIVE | ENDED
    assert not QUEUED & ACTIVE and not (QUEUED | ACTIVE) & ENDED


def test_whatever_a_builder_says_ends_a_cancelled_build() -> None:
    """While cancelling, every end that a builder may report, and every verdict, leads to CANCELLED."""
    ends = (
        E.SUCCEEDED, E.GATHERED, E.GATHERED_LATE, E.RESULTS_REFUSED, E.PACKAGE_FAILED, E.DEPENDENCIES_MISSING,
        E.CHROOT_UNUSABLE, E.GIVEN_BACK, E.ABORTED, E.REQUEUED, E.CONDEMNED, E.CANCEL_TIMED_OUT,
    )  # fmt: skip
    assert {after(S.CANCELLING, event) for event in ends} == {S.CANCELLED}


def test_cancel() -> None:
    """What nobody builds yet is cancelled at once; what is being built is stopped first."""
    assert after(S.NEEDS_BUILD, E.CANCEL) is S.CANCELLED
    assert after(S.BUILDING, E.CANCEL) is after(S.GATHERING, E.CANCEL) is S.CANCELLING
    assert after(S.CANCELLING, E.CANCEL) is S.CANCELLING
    assert after(S.DEP_WAIT, E.CANCEL) is S.CANCELLED


def test_retry_by_hand() -> None:
    """These can be retried by hand, and no others."""
    retriable = {S.FAILED, S.DEP_WAIT, S.CHROOT_WAIT, S.FAILED_UPLOAD, S.CANCELLED, S.SUPERSEDED}
    assert {state for state, event in TRANSITIONS if event is E.RETRY} == RETRIABLE == retriable


def test_what_was_built_stays_built() -> None:
    """A build that has succeeded takes no event any more."""
    assert not [event for state, event in TRANSITIONS if state is S.BUILT]


def test_superseding_never_takes_a_build_from_its_builder() -> None:
    """What waits is superseded at once, what a builder has goes on, and what has ended stays what it became."""
    at_once = {state for state in BuildState if TRANSITIONS.get((state, E.SUPERSEDE)) is S.SUPERSEDED}
    assert at_once == PENDING
    assert all(after(state, E.SUPERSEDE) is state for state in ACTIVE)
    assert not [state for state in ENDED - PENDING if (state, E.SUPERSEDE) in TRANSITIONS]


def test_a_person_can_cancel_whatever_will_be_built() -> None:
    """Whatever will be built yet, or is being built, can be cancelled."""
    assert all((state, E.CANCEL) in TRANSITIONS for state in PENDING | ACTIVE)


def test_only_a_claim_gives_a_build_a_builder() -> None:
    """A builder has a build from a claim on, and not before."""
    assert {event for (old, event), new in TRANSITIONS.items() if new in ACTIVE and old not in ACTIVE} == {E.CLAIMED}


@pytest.mark.parametrize(
    ("state", "event", "why"),
    [
        (S.GATHERING, E.RETRY, "it is built, and its results are being fetched"),
        (S.CANCELLING, E.RETRY, "a builder has it"),
        (S.NEEDS_BUILD, E.RETRY, "it is in the queue already"),
        (S.BUILT, E.RETRY, "it is built"),
        (S.CANCELLED, E.CANCEL, "it has ended, and stays what it became"),
        (S.BUILT, E.SUPERSEDE, "it has ended, and stays what it became"),
        (S.NEEDS_BUILD, E.RELEASED, "it does not wait for anything to appear"),
        (S.FAILED, E.PACKAGE_FAILED, "no builder has it"),
        (S.BUILDING, E.CLAIMED, "only what waits in the queue can be claimed"),
        (S.BUILDING, E.GATHERED, "its builder has not said that it is built"),
        (S.BUILDING, E.CANCEL_TIMED_OUT, "nobody has cancelled it"),
        (S.GATHERING, E.PACKAGE_FAILED, "its builder has said that it is built"),
    ],
)
def test_a_refusal_says_why(state: BuildState, event: Event, why: str) -> None:
    """What is refused is refused with a reason."""
    assert why_refused(state, event) == why
