"""What a daemon knows of the one build that it has, and tells of it."""

from dataclasses import dataclass
from xmlrpc.client import Binary

from twisted.internet.defer import Deferred

from buildd.cached_results import CachedResults
from buildd.changes import Delayed
from buildd.explaining import Explainer
from buildd.guard import BuildGuard
from buildd.managers.base import BuildManager, BuildRequest, BuildResult
from buildd.protocol import STATUSES_WITH_FILES, Sha1, StatusStruct
from buildd.xmlrequest import sendable


@dataclass
class Job:
    """A build that was accepted, until clean()."""

    request: BuildRequest
    plan: object  # What the build type made of the request.
    manager: BuildManager
    inputs: tuple[Sha1, ...]  # Pinned in the cache.
    fast_cleanup: bool  # Its directory is left for the next start, if there is one.
    explainer: Explainer
    results: CachedResults
    running: Deferred[BuildResult] | None = None
    guard: BuildGuard | None = None  # While it runs.
    stage: str = ""
    result: BuildResult | None = None  # Once it is WAITING.
    over: bool = False  # Nothing of it runs any more; not so when it could not be aborted.
    aborting: bool = False
    abort_limit: Delayed | None = None

    def progress(self) -> StatusStruct:
        """The keys of status() that tell how far it is."""
        return StatusStruct(logtail=Binary(self.request.log.tail()), stage=sendable(self.stage))

    def outcome(self) -> StatusStruct:
        """The keys of status() that tell how it ended; none before."""
        result = self.result
        if result is None:
            return StatusStruct()
        keys = StatusStruct(build_status=result.status.value, reason=sendable(result.reason))
        if result.cause is not None:
            keys["cause"] = result.cause.value
            keys["error"] = sendable(result.error)
        if result.status in STATUSES_WITH_FILES:
            keys["filemap"] = {str(name): str(sha1) for name, sha1 in self.results.filemap.items()}
            keys["dependencies"] = sendable(result.dependencies)
        return keys
