"""The parts that scans work with, put together: for the service, and for BuilddMaster."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from buildmaster.builder_client import BuilderClient, Timeouts
from buildmaster.builder_http import BuilderHttp
from buildmaster.credentials import NOWHERE, Access
from buildmaster.dispatch import Dispatcher
from buildmaster.farm import Farm
from buildmaster.fetching import Fetcher, Limits
from buildmaster.gathering import Gatherer
from buildmaster.leases import Tenure
from buildmaster.ports import IMasterReactor
from buildmaster.resetting import ResetSettings, Resetter
from buildmaster.running_log import RunningLogs
from buildmaster.scanner import Work
from buildmaster.sending_ahead import SendingAhead
from buildmaster.snapshot import Snapshot


@dataclass(frozen=True)
class WorkSettings:
    """What scans go by."""

    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    cancel_timeout_s: float = 180.0
    build_timeout_s: float = 86400.0
    send_ahead_bytes: int = 1 << 30
    resets: ResetSettings = field(default_factory=ResetSettings)
    looks: bool = False  # Builds are given to builders when their build-dependencies were looked at; see examiner.py.


def make_work(
    farm: Farm,
    reactor: IMasterReactor,
    snapshot: Snapshot,
    http: BuilderHttp,
    tenure: Tenure,
    *,
    files_url: str,
    settings: WorkSettings,
    archives: Access = NOWHERE,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
) -> Work:
    """Put the parts together.

    :param files_url: where builders fetch the store's files, without a slash at the end.
    :param archives: that we publish.
    :param now: Unix time, and
    :param clock: seconds that nobody can set: no part asks for the time elsewhere.
    """
    fetcher = Fetcher(farm.store, reactor, settings.limits)
    resetter = Resetter(reactor, settings.resets)
    dispatcher = Dispatcher(
        farm, tenure, now, files_url, unlooked=not settings.looks, is_reset=resetter.is_for, archives=archives
    )

    def client(url: str) -> BuilderClient:
        return BuilderClient(url, http, settings.timeouts, clock, allowed=tenure.allowed(), acts=tenure.acts)

    return Work(
        farm=farm,
        snapshot=snapshot,
        tenure=tenure,
        dispatcher=dispatcher,
        ahead=SendingAhead(
            farm, snapshot, dispatcher=dispatcher, client=client, now=now, limit_bytes=settings.send_ahead_bytes
        ),
        gatherer=Gatherer(farm, tenure, reactor, fetcher, limit_bytes=settings.limits.file_bytes, now=now),
        logs=RunningLogs(farm, reactor, settings.limits.log_bytes),
        resetter=resetter,
        client=client,
        now=now,
        clock=clock,
        cancel_timeout_s=settings.cancel_timeout_s,
        build_timeout_s=settings.build_timeout_s,
    )
