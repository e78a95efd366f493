"""The parts that scans work with, put together: for the service, and for BuilddMaster."""

import time
from dataclasses import dataclass, field

from buildmaster.builder_client import BuilderClient, Timeouts
from buildmaster.builder_http import BuilderHttp
from buildmaster.dispatch import Dispatcher
from buildmaster.farm import Farm
from buildmaster.fetching import Fetcher, Limits
from buildmaster.gathering import Gatherer
from buildmaster.ports import IMasterReactor
from buildmaster.resetting import ResetSettings, Resetter
from buildmaster.running_log import RunningLogs
from buildmaster.scanner import Work
from buildmaster.snapshot import Snapshot


@dataclass(frozen=True)
class WorkSettings:
    """What scans go by."""

    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    cancel_timeout_s: float = 180.0
    resets: ResetSettings = field(default_factory=ResetSettings)


def make_work(
    farm: Farm,
    reactor: IMasterReactor,
    snapshot: Snapshot,
    http: BuilderHttp,
    *,
    files_url: str,
    settings: WorkSettings,
) -> Work:
    """Put the parts together.

    :param files_url: where builders fetch the store's files, without a slash at the end.
    """
    fetcher = Fetcher(farm.store, reactor, settings.limits)
    return Work(
        farm=farm,
        snapshot=snapshot,
        dispatcher=Dispatcher(farm, time.time, files_url),
        gatherer=Gatherer(farm, reactor, fetcher, settings.limits.file_bytes, time.time),
        logs=RunningLogs(farm, reactor, settings.limits.log_bytes),
        resetter=Resetter(reactor, settings.resets),
        client=lambda url: BuilderClient(url, http, settings.timeouts),
        now=time.time,
        cancel_timeout_s=settings.cancel_timeout_s,
    )
