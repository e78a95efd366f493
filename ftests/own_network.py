"""Running something in a network of its own: a loopback, and what clouds have at 169.254.169.254."""

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable
from typing import Final, TypeVar

T = TypeVar("T")

METADATA: Final = "169.254.169.254"
_CLONE_NEWNET: Final = 0x40000000


def in_own_network(action: Callable[[], T]) -> T:
    """Call something in a thread whose network is its own; what it starts has that network, too. As root only.

    A socket stays in the network in which it was made, whichever thread uses it. When the last process is gone that has
    this network, and the last such socket, it is gone as well.
    """
    outcome: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            subprocess.run(["ip", "address", "add", f"{METADATA}/32", "dev", "lo"], check=True)
            outcome.append(action())
        except BaseException as exc:  # It is raised anew in the thread that waits.
            failure.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failure:
        raise failure[0]
    return outcome[0]
