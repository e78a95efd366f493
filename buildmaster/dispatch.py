"""Give an idle builder its next build.

The claim, and that the builder is DIRTY from now on, are committed before anything is sent. If the master dies after
that, the next scan finds a builder that does not know the build, and queues it again.
"""

from collections.abc import Callable, Iterator
from urllib.parse import quote

from sqlalchemy import Connection
from twisted.logger import Logger

from buildmaster import builders, builds, giving, orders, queue
from buildmaster.at_once import together
from buildmaster.builder_client import BuilderClient, CutShort, FilesMissing
from buildmaster.builder_http import BuilderError
from buildmaster.builders import Cleanliness, Vitals
from buildmaster.credentials import NOWHERE, Access
from buildmaster.farm import Farm
from buildmaster.leases import Tenure
from buildmaster.lifecycle import BuildState, Event
from buildmaster.orders import BUILD_TYPE, BuildOrder
from buildmaster.pacing import Progress
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
        archives: Access = NOWHERE,
    ) -> None:
        """:param files_url: where builders fetch the store's files, without a slash at the end.
        :param unlooked: builds whose build-dependencies nobody has looked at are given, too.
        :param is_reset: whether a builder is thrown away after a build, so that it need not tidy up.
        :param archives: that we publish.
        """
        self._archives = archives
        self.is_reset = is_reset
        self._unlooked = unlooked
        self._farm = farm
        self._tenure = tenure
        self._now = now
        self._files_url = files_url

    async def dispatch(self, vitals: Vitals, client: BuilderClient, log: Logger, version: str = "") -> Progress:
        """Give an idle builder its next build. If there is none for it, it is marked clean, where it is not yet.

        :param version: of its daemon, if that was told.
        :returns: RUNNING; IDLE when there is no build for it; CHANGED when it was not to be begun after all.
        :raises DispatchFailed: a build was claimed, and the builder did not take it.
        """
        clean = vitals.cleanliness is Cleanliness.CLEAN
        if clean and vitals.given is None and not await self._has_candidates(vitals):
            return Progress.IDLE  # Found without making others wait for a writing transaction.
        now = self._now()
        arguments = (vitals.id, vitals.cleanliness, version, now)
        order = await self._tenure.transact(vitals.id, take, *arguments, unlooked=self._unlooked)
        if order is None:
            return Progress.IDLE
        self._farm.log_path(order.build_id).unlink(missing_ok=True)  # That of an earlier attempt.
        try:
            begun = await self._send(order, vitals, client, now)
        except CutShort:
            begun = False
        except BuilderError as error:
            raise DispatchFailed(f"could not begin {order.title}: {error}") from error
        if begun:
            log.info("build {build}: began {title}", title=order.title, build=order.build_id)
            return Progress.RUNNING
        await self._tenure.transact(vitals.id, _take_back, order.build_id, vitals.name, self._now())
        log.info("build {build}: did not begin {title} after all", title=order.title, build=order.build_id)
        return Progress.CHANGED

    async def _has_candidates(self, vitals: Vitals) -> bool:
        return bool(await self._farm.read(queue.candidates, vitals, self._now(), 1, unlooked=self._unlooked))

    async def _send(self, order: BuildOrder, vitals: Vitals, client: BuilderClient, claimed_at: float) -> bool:
        """Begin the build, and send its files when the builder says that it lacks some: most often it has all.

        :param claimed_at: as its row has it.
        :returns: False: it was cancelled, or its builder disabled, meanwhile.
        """
        assert order.chroot is not None  # take() saw to it.
        filemap = {name: file.sha1 for name, file in order.files.items()}
        login = self._archives.of_build(order.build_id, vitals.id, claimed_at)
        arguments = order.wire_arguments(self._archives.url, login) | (
            {"fast_cleanup": True} if self.is_reset(vitals) else {}
        )
        begin = (order.cookie, BUILD_TYPE, order.chroot.sha1, filemap, arguments)
        try:
            await client.build(*begin)
        except FilesMissing:
            await together(client.ensure_present(file.sha1, self.url(file, name)) for name, file in order.to_send())
            if not await self._farm.read(_is_wanted, order.build_id, vitals.id):
                return False
            await client.build(*begin)
        return True

    def url(self, file: StoredFile, name: str) -> str:
        """Where a builder fetches a file of the store: from the store itself, if it can, else from the master.

        What follows a "?" in it is a secret.
        """
        own = self._farm.store.url(file.sha256, _URL_LIFETIME_S)
        return own or f"{self._files_url}/files/{file.sha256}/{quote(name)}"


def take(
    connection: Connection,
    builder_id: int,
    cleanliness: Cleanliness,
    version: str,
    now: float,
    *,
    unlooked: bool = True,
) -> BuildOrder | None:
    """Claim the most urgent build that an idle builder can be given, and mark the builder DIRTY.

    :param cleanliness: as it was known to be. If it is not so any more, nothing is done.
    :param version: see builders.set_cleanliness().
    :returns: None: there is none, and the builder is marked CLEAN.
    """
    vitals = builders.by_id(connection, builder_id)
    if vitals is None or not vitals.enabled or vitals.job is not None or vitals.cleanliness is not cleanliness:
        return None
    for build_id in _choices(connection, vitals, now, unlooked=unlooked):
        order = orders.find(connection, build_id)
        if order.chroot is None:
            builds.wait_for_chroot(connection, build_id, now)
        elif builds.claim(
            connection, build_id, vitals.id, now, chroot=order.chroot.sha256, version=version or vitals.version
        ):
            builders.set_cleanliness(connection, vitals.id, Cleanliness.DIRTY, version)
            return order
    if cleanliness is not Cleanliness.CLEAN or version not in ("", vitals.version):
        builders.set_cleanliness(connection, vitals.id, Cleanliness.CLEAN, version)
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
