"""The package builder `sbuild`: Debian's own, beside the root of the build."""

import time
from collections.abc import Mapping
from pathlib import Path

from buildd import dpkg, sbuild
from buildd.isolation import LimitReached
from buildd.managers.building import Building
from buildd.managers.results import results
from buildd.managers.sbuild_files import SbuildFiles
from buildd.protocol import FileName

_OUT = "out"  # Where sbuild leaves the results, below the build's directory.


class WithSbuild:
    """See PackageBuilder."""

    async def build(self, build: Building) -> sbuild.Verdict:
        """See PackageBuilder.build."""
        request, host, plan = build.request, build.host, build.plan
        out, files = request.directory / _OUT, SbuildFiles(request.directory / "sbuild")
        out.mkdir()
        await host.in_thread(files.lay_out, plan, request.files, build.root.path, build.user_ids, host.config)
        entry = dpkg.changelog_entry(plan.dsc, plan.arguments, time.time())
        command = sbuild.command(plan.arguments, str(files.source / plan.dsc_name), entry)
        visible = [files.directory, out]
        ended = await build.root.run_beside(
            command, env=files.environment, cwd=out, visible=visible, network=build.network
        )
        if ended.limit is not None:
            raise LimitReached(ended)
        return sbuild.verdict(ended.code, build.request.log.tail(sbuild.SUMMARY_BYTES).decode(errors="replace"))

    def results(self, build: Building) -> Mapping[FileName, Path]:
        """See PackageBuilder.results."""
        return results(build.request.directory / _OUT, build.request.limits.disk_bytes)
