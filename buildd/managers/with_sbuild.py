"""The package builder `sbuild`: Debian's own, beside the root of the build."""

from collections.abc import Mapping
from pathlib import Path

from buildd import sbuild
from buildd.isolation import LimitReached
from buildd.managers.building import Building
from buildd.managers.results import results
from buildd.managers.sbuild_files import SOURCE, START, lay_out
from buildd.protocol import FileName

_OUT = "out"  # Where sbuild leaves the results, below the build's directory.


class WithSbuild:
    """See PackageBuilder."""

    async def build(self, build: Building) -> sbuild.Verdict:
        """See PackageBuilder.build."""
        directory, host, plan = build.request.directory, build.host, build.plan
        out, laid_out = directory / _OUT, directory / "sbuild"
        out.mkdir()
        await host.in_thread(lay_out, laid_out, plan, build.request.files, build.root.path, host.config)
        command = sbuild.command(plan.arguments, str(laid_out / SOURCE / plan.dsc_name))
        start = ["sh", str(laid_out / START), str(laid_out), build.user_ids]
        ended = await build.root.run_beside([*start, *command], env={}, cwd=out, visible=[laid_out, out])
        if ended.limit is not None:
            raise LimitReached(ended)
        return sbuild.verdict(ended.code, build.request.log.tail(sbuild.SUMMARY_BYTES).decode(errors="replace"))

    def results(self, build: Building) -> Mapping[FileName, Path]:
        """See PackageBuilder.results."""
        return results(build.request.directory / _OUT)
