"""Virtualised builders are reset instead of cleaned: by a command of the operator's that has their host's name in it.

Synchronously: the command returns when the machine is a new one; the daemon must answer then, and the builder is clean.
Asynchronously: the command begins it, and whoever ends it says so (`buildmaster builder-cleaned NAME`), before or after
the command itself has ended. A master that ends meanwhile leaves a builder that is dirty, or that somebody will say is
clean; the command may then be called again, which it must bear.
"""

from dataclasses import dataclass

from twisted.internet.defer import DeferredSemaphore
from twisted.logger import Logger

from buildmaster import external
from buildmaster.builder_client import BuilderClient
from buildmaster.builder_http import BuilderError
from buildmaster.builders import Cleanliness, Vitals
from buildmaster.ports import IMasterReactor

HOST = "{host}"  # Stands in the command for the host's name.
_AT_ONCE = 20  # So many commands run at once: after a power cut all builders are dirty.


class ResetFailed(BuilderError):
    """A virtualised builder could not be reset."""


@dataclass(frozen=True)
class ResetSettings:
    """How virtualised builders are reset."""

    command: tuple[str, ...] = ()  # With HOST in one of its words; (): they are cleaned as others are.
    asynchronous: bool = False
    timeout_s: float = 300.0  # How long the command may take.
    cleaning_timeout_s: float = 1800.0  # How long, when asynchronous, until somebody says that it is clean.


class Resetter:
    """Resets builders."""

    def __init__(self, reactor: IMasterReactor, settings: ResetSettings) -> None:
        self._reactor = reactor
        self._settings = settings
        self._turns = DeferredSemaphore(_AT_ONCE)

    def is_for(self, vitals: Vitals) -> bool:
        """Whether a builder is reset, and not cleaned."""
        return vitals.virtualised and bool(self._settings.command)

    async def reset(self, vitals: Vitals, client: BuilderClient, log: Logger) -> Cleanliness:
        """Reset a builder, whatever it does. Returns CLEAN, or CLEANING when somebody else will say that it is.

        :raises ResetFailed: the command failed, or the daemon does not answer after it.
        """
        if not vitals.vm_host:
            raise ResetFailed(f"it cannot be reset: give it a host by `change-builder {vitals.name} --vm-host HOST`")
        command = [word.replace(HOST, vitals.vm_host) for word in self._settings.command]
        await self._turns.acquire()
        try:
            ended = await external.run(self._reactor, command, self._settings.timeout_s)
        finally:
            self._turns.release()
        said = f": {ended.said}" if ended.said else ""
        if ended.trouble:
            raise ResetFailed(f"the command that resets {vitals.vm_host} failed: {ended.trouble}{said}")
        log.info("the command that resets {host} is done{said}", host=vitals.vm_host, said=said)
        if self._settings.asynchronous:
            return Cleanliness.CLEANING
        try:
            await client.echo("ping")
        except BuilderError as error:
            raise ResetFailed(f"{vitals.vm_host} was reset, and its daemon does not answer: {error}") from error
        return Cleanliness.CLEAN

    def check_time(self, vitals: Vitals, now: float) -> None:
        """Look whether a builder is CLEANING for longer than that may take.

        :raises ResetFailed: it is.
        """
        limit_s = self._settings.cleaning_timeout_s
        since = now if vitals.cleaning_since is None else vitals.cleaning_since
        if not -limit_s <= now - since <= limit_s:  # A clock that was set back must not keep it for ever.
            raise ResetFailed(f"nobody said within {limit_s:g} s that {vitals.vm_host or 'it'} is clean again")
