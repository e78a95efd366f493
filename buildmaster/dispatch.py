"""Give an idle builder its next build.

The claim, and that the builder is DIRTY from now on, are committed before anything is sent. If the master dies after
that, the next scan finds a builder that does not know the build, and queues it again.
"""

from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection
from twisted.internet.defer import Deferred, FirstError, gatherResults
from twisted.logger import Logger

from buildmaster import builders, builds, giving, orders, queue
from buildmaster.builder_client import BuilderClient, CutShort
from buildmaster.builder_http import BuilderError
from buildmaster.builders import Cleanliness, Vitals
from buildmaster.farm import Farm
from buildmaster.leases import Tenure
from buildmaster.lifecycle import BuildState, Event
from buildmaster.orders import BUILD_TYPE, BuildOrder
from buildmaster.store import StoredFile

_LOOK_AT = 20  # So many candidates are tried; those before it were taken by others, or have no chroot.
_URL_LIFETIME_S = 6 * 3600  # Longer than any ensurepresent takes until its last attempt begins.


class DispatchFailed(BuilderError):
    """A builder did not take the build that was claimed for it."""


class Dispatcher:
    """Gives builds to builders."""

    def __init__(
        self,
        farm: Farm,
        tenure: Tenure,
        now: Callable[[], float],
        files_url: str,
        *,
        unlooked: bool = True,
        is_reset: Callable[[Vitals], bool] = lambda _: False,
    ) -> None:
        """:param files_url: where builders fetch the store's files, without a slash at the end.
        :param unlooked: builds whose build-dependencies nobody has looked at are given, too.
        :param is_reset: whether a builder is thrown away after a build, so that it need not tidy up.
        """
        self.is_reset = is_reset
        self._unlooked = unlooked
        self._farm = farm
        self._tenure = tenure
        self._now = now
        self._files_url = files_url

    async def dispatch(self, vitals: Vitals, client: BuilderClient, log: Logger) -> bool:
        """Give a clean and idle builder its next build. False: there is none for it.

        :raises DispatchFailed: a build was claimed, and the builder did not take it.
        """
        if vitals.given is None and not await self._has_candidates(vitals):
            return False  # Found without making others wait for a writing transaction.
        order = await self._tenure.transact(vitals.id, take, vitals, self._now(), unlooked=self._unlooked)
        if order is None:
            return False
        self._farm.log_path(order.build_id).unlink(missing_ok=True)  # That of an earlier attempt.
        try:
            begun = await self._send(order, vitals, client)
        except CutShort:
            begun = False
        except BuilderError as error:
            raise DispatchFailed(f"could not begin {order.title}: {error}") from error
        if begun:
            log.info("build {build}: began {title}", title=order.title, build=order.build_id)
        else:
            await self._tenure.transact(vitals.id, _take_back, order.build_id, vitals.name, self._now())
            log.info("build {build}: did not begin {title} after all", title=order.title, build=order.build_id)
        return True

    async def _has_candidates(self, vitals: Vitals) -> bool:
        return bool(await self._farm.read(queue.candidates, vitals, self._now(), 1, unlooked=self._unlooked))

    async def _send(self, order: BuildOrder, vitals: Vitals, client: BuilderClient) -> bool:
        """Send the files and begin the build. False: it was cancelled, or its builder disabled, meanwhile."""
        assert order.chroot is not None  # take() saw to it.
        await together(client.ensure_present(file.sha1, self.url(file, name)) for name, file in order.to_send())
        if not await self._farm.read(_is_wanted, order.build_id, vitals.id):
            return False
        filemap = {name: file.sha1 for name, file in order.files.items()}
        arguments = order.wire_arguments() | ({"fast_cleanup": True} if self.is_reset(vitals) else {})
        await client.build(order.cookie, BUILD_TYPE, order.chroot.sha1, filemap, arguments)
        return True

    def url(self, file: StoredFile, name: str) -> str:
        """Where a builder fetches a file of the store: from the store itself, if it can, else from the master.

        What follows a "?" in it is a secret.
        """
        own = self._farm.store.url(file.sha256, _URL_LIFETIME_S)
        return own or f"{self._files_url}/files/{file.sha256}/{quote(name)}"


async def together(calls: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Make calls at the same time; what the first says that fails is raised, and the others are ended."""
    running = [Deferred.fromCoroutine(call) for call in calls]
    try:
        await gatherResults(running, consumeErrors=True)
    except FirstError as error:
        for one in running:
            one.cancel()
        error.subFailure.raiseException()


def take(connection: Connection, vitals: Vitals, now: float, *, unlooked: bool = True) -> BuildOrder | None:
    """Claim the most urgent build that a builder can be given, and mark the builder DIRTY. None: there is none."""
    for build_id in _choices(connection, vitals, now, unlooked=unlooked):
        order = orders.find(connection, build_id)
        if order.chroot is None:
            builds.wait_for_chroot(connection, build_id, now)
        elif builds.claim(connection, build_id, vitals.id, now):
            builders.set_cleanliness(connection, vitals.id, Cleanliness.DIRTY)
            return order
    return None


def _choices(connection: Connection, vitals: Vitals, now: float, *, unlooked: bool) -> Iterator[int]:
    """What a builder may have, in order: what a person gave it, then what is its turn unless it is in manual mode."""
    given = giving.take(connection, vitals)
    if given is not None:
        yield given
    if not vitals.manual:
        yield from queue.candidates(connection, vitals, now, _LOOK_AT, unlooked=unlooked)


def _take_back(connection: Connection, build_id: int, builder: str, now: float) -> None:
    """A build that was claimed is not to be begun there after all."""
    reason = f"{builder} was taken out of service before it began"  # Or it was cancelled, and that was said.
    builds.record(connection, build_id, Event.REQUEUED, now, reason=reason)


def _is_wanted(connection: Connection, build_id: int, builder_id: int) -> bool:
    """Whether a build that was claimed is still to be begun there."""
    vitals = builders.by_id(connection, builder_id)
    job = vitals.job if vitals is not None and vitals.enabled else None
    return job is not None and (job.build_id, job.state) == (build_id, BuildState.BUILDING)
