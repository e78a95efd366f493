"""The state machine of a build."""

import pytest

from buildmaster.lifecycle import (
    ACTIVE,
    ENDED,
    QUEUED,
    RETRIABLE,
    TRANSITIONS,
    BuildState,
    Event,
    ImpossibleTransition,
    after,
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
        E.SUCCEEDED, E.PACKAGE_FAILED, E.DEPENDENCIES_MISSING, E.CHROOT_UNUSABLE, E.GIVEN_BACK, E.ABORTED, E.REQUEUED,
        E.CONDEMNED, E.CANCEL_TIMED_OUT,
    )  # fmt: skip
    assert {after(S.CANCELLING, event) for event in ends} == {S.CANCELLED}


def test_cancel() -> None:
    """What nobody builds yet is cancelled at once; what is being built is stopped first."""
    assert after(S.NEEDS_BUILD, E.CANCEL) is S.CANCELLED
    assert after(S.BUILDING, E.CANCEL) is S.CANCELLING
    assert after(S.CANCELLING, E.CANCEL) is S.CANCELLING
    assert after(S.DEP_WAIT, E.CANCEL) is S.CANCELLED


def test_retry_by_hand() -> None:
    """These can be retried by hand, and no others."""
    retriable = {S.FAILED, S.DEP_WAIT, S.CHROOT_WAIT, S.FAILED_UPLOAD, S.CANCELLED, S.SUPERSEDED}
    assert {state for state, event in TRANSITIONS if event is E.RETRY} == RETRIABLE == retriable


def test_what_was_built_stays_built() -> None:
    """A build that has succeeded takes no event any more."""
    assert not [event for state, event in TRANSITIONS if state is S.BUILT]
