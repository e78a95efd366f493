"""`python -m buildmaster.tests.simulation --seed N --builders N --builds N --hours H`: runs, and tells."""

import argparse
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import replace

from twisted.logger import globalLogBeginner

from buildmaster.tests.simulation.world import Plan, Report, simulate


def main(argv: Sequence[str] | None = None) -> int:
    """Run with one seed after the other; exit status 1 when something is not as it must be."""
    parser = argparse.ArgumentParser(prog="python -m buildmaster.tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="default: the time")
    parser.add_argument("--runs", type=int, default=1, help="so many seeds, from this one on (default: 1)")
    parser.add_argument("--builders", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--builds", type=int, default=200, help="default: %(default)s")
    parser.add_argument("--hours", type=float, default=8.0, help="of trouble (default: %(default)s)")
    parser.add_argument("--deadliness", type=float, default=0.5, help="of points, for masters (default: %(default)s)")
    parser.add_argument("--masters", type=int, default=1, help="that share the builders (default: 1)")
    parser.add_argument("--troubles", type=int, default=5, help="of each kind, of masters (default: %(default)s)")
    arguments = parser.parse_args(argv)
    globalLogBeginner.beginLoggingTo([], redirectStandardIO=False, discardBuffer=True)  # Masters' words: thousands.
    wrong = 0
    for seed in range(arguments.seed, arguments.seed + arguments.runs):
        sizes = {"builders": arguments.builders, "builds": arguments.builds, "hours": arguments.hours}
        plan = Plan(seed, **sizes, acts=arguments.builds, deadliness=arguments.deadliness, masters=arguments.masters)
        plan = replace(plan, deaths=arguments.troubles)
        if arguments.masters > 1:
            many = {"stops": arguments.troubles, "outages": arguments.troubles, "ends": arguments.troubles}
            plan = replace(plan, stillness=0.3, **many)
        print(f"seed {seed}:", end=" ", flush=True)
        began = time.monotonic()
        try:
            report = simulate(plan)
        except Exception:
            wrong += 1
            print(traceback.format_exc())
        else:
            print(_line(report), f"in {time.monotonic() - began:.0f} s", flush=True)
    return 1 if wrong else 0


def _line(report: Report) -> str:
    states = ", ".join(f"{count} {state}" for state, count in sorted(report.states.items()))
    return (
        f"{states}; {report.hours:.1f} hours, {report.commits} commits, {report.points} points, "
        f"{sum(report.died.values())} deaths of masters at {len(report.died)} places, {report.handed} builders came to "
        f"another master, {report.released} publications released in time; digest {report.digest}"
    )


if __name__ == "__main__":
    sys.exit(main())
