"""Waiting for what other threads and processes do."""

import time
from collections.abc import Callable


def wait_until(reached: Callable[[], bool], timeout_s: float = 20.0, told: Callable[[], str] = str) -> None:
    """Wait for something, in a thread that has nothing else to do.

    :param told: what is known when it does not come.
    :raises TimeoutError: it did not come.
    """
    deadline = time.monotonic() + timeout_s
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout_s:g} s: {told()}")
        time.sleep(0.02)
