"""The package builder `direct`: dpkg-buildpackage in the root of the build, in one command, without sbuild.

The source package is copied into the root's own changes and the results are taken from there, as nothing of the build
runs before or after that command.
"""

import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import buildd
from buildd import direct, dpkg, relations
from buildd.control import ControlError
from buildd.isolation import LimitReached
from buildd.managers.building import Building
from buildd.managers.plan import Plan
from buildd.managers.results import plain_directory, read_text, results
from buildd.protocol import BuildStatus, FileName
from buildd.sbuild import Verdict, failure

_REPORT_MAX = 1 << 16


class Direct:
    """See PackageBuilder."""

    async def build(self, build: Building) -> Verdict:
        """See PackageBuilder.build."""
        host, log, began = build.host, build.request.log, time.time()
        job = _job(build.plan, host.config.jobs, proxied=build.network is not None)
        log.say(direct.opening(job, buildd.__version__, host.config.label, began))
        fits = relations.is_for(job.host_architecture, build.plan.dsc.architectures, build.plan.arguments.arch_indep)
        log.say(direct.arch_check(job, " ".join(build.plan.dsc.architectures), fits))
        report = await _run(build, job) if fits else direct.Report("arch-check")
        now = time.time()
        log.say(direct.summary(job, report, now - began, now))
        return failure(report.status, report.stage) if report.stage else Verdict(BuildStatus.OK, "built")

    def results(self, build: Building) -> Mapping[FileName, Path]:
        """See PackageBuilder.results."""
        directory = plain_directory(build.root.changes, direct.PRIVATE, direct.RESULTS)
        return results(directory, build.request.limits.disk_bytes)


async def _run(build: Building, job: direct.Job) -> direct.Report:
    private = _private(build)
    entry = dpkg.changelog_entry(build.plan.dsc, build.plan.arguments, time.time())
    await build.host.in_thread(_lay_out, private, build.request.files, entry)
    script = ["sh", "-c", direct.script(job, build.user_ids)]
    output = direct.LogFilter(job, build.request.log.write)
    try:
        ended = await build.root.run(script, network=build.network, output=output)
    finally:
        output.close()
    if ended.limit is not None:
        raise LimitReached(ended)
    return direct.parse_report(_report(build))


def _report(build: Building) -> str:
    """What the script wrote to its report; "" when that is gone."""
    try:
        private = plain_directory(build.root.changes, direct.PRIVATE)
    except ControlError:
        return ""
    return read_text(private / direct.REPORT, _REPORT_MAX)


def _private(build: Building) -> Path:
    """Ours within the root, as it is outside."""
    return build.root.changes / direct.PRIVATE


def _job(plan: Plan, jobs: int, *, proxied: bool) -> direct.Job:
    arguments = plan.arguments
    return direct.Job(
        source=plan.dsc.source,
        source_version=plan.dsc.version,
        version=dpkg.binary_version(plan.dsc, arguments),
        dsc=plan.dsc_name,
        distribution=arguments.suite,
        build_architecture=arguments.arch_tag,
        host_architecture=dpkg.host_architecture(arguments),
        profiles=dpkg.profiles(arguments),
        build_type=dpkg.build_type(arguments),
        # sbuild rewrites the field.
        options=(*dpkg.options(arguments), f"--changes-option=-DDistribution={arguments.suite}"),
        environment=dpkg.environment(arguments, jobs, proxied=proxied),
    )


def _lay_out(private: Path, files: Mapping[FileName, Path], entry: str) -> None:
    """Put what the script needs into the root.

    Copies, and not links: root of the build's namespaces is who owns the cache outside.
    """
    private.mkdir(mode=0o700)
    (private / direct.RESULTS).mkdir()
    source = private / direct.SOURCE
    source.mkdir()
    if entry:
        (private / direct.ENTRY).write_text(entry, encoding="utf-8")
    for name, path in files.items():
        shutil.copyfile(path, source / name)
