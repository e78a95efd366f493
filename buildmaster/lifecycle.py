"""The state machine of a build: states, events, and one table that says which leads where. Pure.

A build's state is a word in its row. It changes in one place only (:func:`buildmaster.builds.record`), by an event that
this table answers. Races are rows: a build that ends well while it is being cancelled is CANCELLING + SUCCEEDED. What
is no row is refused, and :func:`why_refused` says why. docs/lifecycle.md and its picture are made of this file, with
its comments, by `python -m tools.lifecycle`.
"""

from enum import StrEnum


class BuildState(StrEnum):
    """Where a build is in its life."""

    NEEDS_BUILD = "needs-build"  # In the queue, for any builder that can. Dispatch claims it for one.
    BUILDING = "building"  # In the queue, and a builder has it. The scan of that builder moves it on.
    GATHERING = "gathering"  # Built well; results are being fetched from the builder. Gathering moves it on.
    BUILT = "built"  # Results are in the store. The end.
    FAILED = "failed"  # The package does not build, or broke several builders. A retry by hand moves it on.
    DEP_WAIT = "dep-wait"  # Build-dependencies are missing. Released when they appear; or retried.
    CHROOT_WAIT = "chroot-wait"  # No chroot, or a broken one. Released by a new chroot; or retried.
    FAILED_UPLOAD = "failed-upload"  # Built, but the results do not check. A retry by hand moves it on.
    CANCELLING = "cancelling"  # Cancelled while its builder had it. The scan stops it and moves it on.
    CANCELLED = "cancelled"  # Somebody did not want it. A retry by hand moves it on.
    SUPERSEDED = "superseded"  # A newer source took the place of its own. A retry by hand moves it on.


class Event(StrEnum):
    """What can happen to a build."""

    CLAIMED = "claimed"  # A builder is to build it.
    SUCCEEDED = "succeeded"  # Its builder says OK.
    GATHERED = "gathered"  # The results are in the store, and check.
    GATHERED_LATE = "gathered-late"  # They are, but a newer source took the place of its own since it was queued.
    RESULTS_REFUSED = "results-refused"  # The results do not check.
    PACKAGE_FAILED = "package-failed"  # Its builder says PACKAGEFAIL.
    DEPENDENCIES_MISSING = "dependencies-missing"  # Its builder says DEPFAIL.
    CHROOT_UNUSABLE = "chroot-unusable"  # Its builder says CHROOTFAIL, or there is no chroot to send.
    GIVEN_BACK = "given-back"  # Its builder says GIVENBACK.
    ABORTED = "aborted"  # Its builder says ABORTED.
    REQUEUED = "requeued"  # Its builder was lost, forgot it, or failed; the build is not to blame.
    CONDEMNED = "condemned"  # It failed on builders that serve others well: the build is to blame.
    CANCEL = "cancel"  # A person cancels it.
    CANCEL_TIMED_OUT = "cancel-timed-out"  # Its builder did not stop it in time.
    RETRY = "retry"  # A person wants it tried again.
    RELEASED = "released"  # What it waited for is there.
    SUPERSEDE = "supersede"  # A newer source took the place of its own.


class ImpossibleTransition(Exception):
    """A build in this state cannot take this event."""

    def __init__(self, state: BuildState, event: Event) -> None:
        super().__init__(f"a build that is {state} cannot take {event}: {why_refused(state, event)}")
        self.state = state
        self.event = event


QUEUED = frozenset({BuildState.NEEDS_BUILD})  # Has a queue row, and no builder.
ACTIVE = frozenset({BuildState.BUILDING, BuildState.GATHERING, BuildState.CANCELLING})  # Has a queue row and a builder.
ENDED = frozenset(BuildState) - QUEUED - ACTIVE  # Has no queue row.
PENDING = frozenset({BuildState.NEEDS_BUILD, BuildState.DEP_WAIT, BuildState.CHROOT_WAIT})  # To be built yet.
RETRIABLE = frozenset(
    {
        BuildState.FAILED,
        BuildState.DEP_WAIT,
        BuildState.CHROOT_WAIT,
        BuildState.FAILED_UPLOAD,
        BuildState.CANCELLED,
        BuildState.SUPERSEDED,
    }
)

_S, _E = BuildState, Event

TRANSITIONS: dict[tuple[BuildState, Event], BuildState] = {
    (_S.NEEDS_BUILD, _E.CLAIMED): _S.BUILDING,
    (_S.NEEDS_BUILD, _E.DEPENDENCIES_MISSING): _S.DEP_WAIT,  # Seen before a builder was troubled with it.
    (_S.NEEDS_BUILD, _E.CHROOT_UNUSABLE): _S.CHROOT_WAIT,
    (_S.NEEDS_BUILD, _E.CANCEL): _S.CANCELLED,  # Nothing runs: at once.
    (_S.NEEDS_BUILD, _E.SUPERSEDE): _S.SUPERSEDED,  # Nobody waits for it.
    (_S.BUILDING, _E.SUCCEEDED): _S.GATHERING,
    (_S.BUILDING, _E.PACKAGE_FAILED): _S.FAILED,
    (_S.BUILDING, _E.DEPENDENCIES_MISSING): _S.DEP_WAIT,
    (_S.BUILDING, _E.CHROOT_UNUSABLE): _S.CHROOT_WAIT,
    (_S.BUILDING, _E.GIVEN_BACK): _S.NEEDS_BUILD,
    (_S.BUILDING, _E.ABORTED): _S.NEEDS_BUILD,  # Nobody asked for it.
    (_S.BUILDING, _E.REQUEUED): _S.NEEDS_BUILD,
    (_S.BUILDING, _E.CONDEMNED): _S.FAILED,
    (_S.BUILDING, _E.CANCEL): _S.CANCELLING,
    (_S.BUILDING, _E.SUPERSEDE): _S.BUILDING,  # Looked at again when it ends, or goes back into the queue.
    (_S.GATHERING, _E.SUCCEEDED): _S.GATHERING,  # The master was restarted, and hears it again.
    (_S.GATHERING, _E.GATHERED): _S.BUILT,
    (_S.GATHERING, _E.GATHERED_LATE): _S.SUPERSEDED,
    (_S.GATHERING, _E.RESULTS_REFUSED): _S.FAILED_UPLOAD,
    (_S.GATHERING, _E.REQUEUED): _S.NEEDS_BUILD,  # The builder was lost with the results.
    (_S.GATHERING, _E.CONDEMNED): _S.FAILED,
    (_S.GATHERING, _E.CANCEL): _S.CANCELLING,  # What is being fetched is let go.
    (_S.GATHERING, _E.SUPERSEDE): _S.GATHERING,  # Looked at again when all is there.
    (_S.CANCELLING, _E.SUCCEEDED): _S.CANCELLED,
    (_S.CANCELLING, _E.GATHERED): _S.CANCELLED,  # Cancelled when the last of it had just come.
    (_S.CANCELLING, _E.GATHERED_LATE): _S.CANCELLED,
    (_S.CANCELLING, _E.RESULTS_REFUSED): _S.CANCELLED,
    (_S.CANCELLING, _E.PACKAGE_FAILED): _S.CANCELLED,
    (_S.CANCELLING, _E.DEPENDENCIES_MISSING): _S.CANCELLED,
    (_S.CANCELLING, _E.CHROOT_UNUSABLE): _S.CANCELLED,
    (_S.CANCELLING, _E.GIVEN_BACK): _S.CANCELLED,
    (_S.CANCELLING, _E.ABORTED): _S.CANCELLED,
    (_S.CANCELLING, _E.REQUEUED): _S.CANCELLED,
    (_S.CANCELLING, _E.CONDEMNED): _S.CANCELLED,
    (_S.CANCELLING, _E.CANCEL_TIMED_OUT): _S.CANCELLED,
    (_S.CANCELLING, _E.CANCEL): _S.CANCELLING,  # Asked twice.
    (_S.CANCELLING, _E.SUPERSEDE): _S.CANCELLING,  # It ends as somebody wished before.
    (_S.DEP_WAIT, _E.RELEASED): _S.NEEDS_BUILD,
    (_S.DEP_WAIT, _E.CANCEL): _S.CANCELLED,
    (_S.DEP_WAIT, _E.SUPERSEDE): _S.SUPERSEDED,
    (_S.CHROOT_WAIT, _E.RELEASED): _S.NEEDS_BUILD,
    (_S.CHROOT_WAIT, _E.CANCEL): _S.CANCELLED,
    (_S.CHROOT_WAIT, _E.SUPERSEDE): _S.SUPERSEDED,
    **{(state, _E.RETRY): _S.NEEDS_BUILD for state in RETRIABLE},
}


def after(state: BuildState, event: Event) -> BuildState:
    """The state that an event leads to.

    :raises ImpossibleTransition: the table has no answer; the build stays as it is.
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise ImpossibleTransition(state, event) from None


_ANY_STATE, _ANY_EVENT = frozenset(BuildState), frozenset(Event)

# Why what is no row is none: the first that matches, in words that follow a colon.
_REFUSALS: tuple[tuple[frozenset[BuildState], frozenset[Event], str], ...] = (
    (_ANY_STATE, frozenset({_E.CLAIMED}), "only what waits in the queue can be claimed"),
    (QUEUED, frozenset({_E.RETRY}), "it is in the queue already"),
    (frozenset({_S.GATHERING}), frozenset({_E.RETRY}), "it is built, and its results are being fetched"),
    (ACTIVE, frozenset({_E.RETRY}), "a builder has it"),
    (_ANY_STATE, frozenset({_E.RETRY}), "it is built"),
    (_ANY_STATE, frozenset({_E.CANCEL, _E.SUPERSEDE}), "it has ended, and stays what it became"),
    (_ANY_STATE, frozenset({_E.RELEASED}), "it does not wait for anything to appear"),
    (QUEUED | ENDED, _ANY_EVENT, "no builder has it"),
    (_ANY_STATE, frozenset({_E.CANCEL_TIMED_OUT}), "nobody has cancelled it"),
    (frozenset({_S.GATHERING}), _ANY_EVENT, "its builder has said that it is built"),
    (_ANY_STATE, _ANY_EVENT, "its builder has not said that it is built"),
)


def why_refused(state: BuildState, event: Event) -> str:
    """Why the table has no row for this."""
    return next(why for states, events, why in _REFUSALS if state in states and event in events)
