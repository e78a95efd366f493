"""What systemd wants to know of a service of Type=notify. Where systemd did not start this process, nothing happens."""

import os
from typing import Any

from twisted.internet.task import LoopingCall

try:
    from sdnotify import SystemdNotifier
except ImportError:  # It is needed under systemd only.
    SystemdNotifier = None


class Systemd:
    """Tells systemd how a daemon, or a master, is."""

    def __init__(self, reactor: Any) -> None:
        self._notifier = SystemdNotifier() if SystemdNotifier else None
        self._alive = LoopingCall(self._notify, "WATCHDOG=1")
        self._alive.clock = reactor

    def ready(self) -> None:
        """The service works. From here on it says that it is alive, twice as often as systemd asks for."""
        self._notify("READY=1")
        interval_us = os.environ.get("WATCHDOG_USEC", "")
        if interval_us.isdigit() and int(interval_us):
            self._alive.start(int(interval_us) / 2e6)

    def status(self, sentence: str) -> None:
        """What `systemctl status` shows."""
        self._notify(f"STATUS={sentence}")

    def stopping(self) -> None:
        """The service is ending."""
        if self._alive.running:
            self._alive.stop()
        self._notify("STOPPING=1")

    def _notify(self, state: str) -> None:
        if self._notifier:
            self._notifier.notify(state)
