"""A program that tries to get out of a build; run by test_isolation.py as the unprivileged account.

`python3 shut_in.py DIRECTORY TARBALL` prints a JSON object: what was tried, and what came of it.
"""

import hashlib
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater, react
from twisted.internet.utils import getProcessOutput
from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from buildd.buildlog import BuildLog
from buildd.isolation.namespaces import ENVIRONMENT, NAMESPACE, Namespaces
from buildd.isolation.unshare import UnshareIsolation
from buildd.process import Children
from buildd.protocol import parse_sha1
from buildd.proxy import ArchiveProxy
from buildd.reach import Reach

# Setuid copies in the root, as a build-dependency's maintainer script could make them; and what perl does then.
PLANT = "cp /usr/bin/perl /usr/bin/esc && cp /usr/bin/id /usr/bin/esc-id && chmod 4755 /usr/bin/esc /usr/bin/esc-id"
FORWARD = "echo 1 >/proc/sys/net/ipv4/ip_forward && echo done"  # Of the network namespace.
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
# GET by whatever is at an address: "$1" is what to ask for, "$2" the address.
FETCH = """
use IO::Socket::INET;
my ($url, $address) = @ARGV;
my $socket = IO::Socket::INET->new(PeerAddr => $address, Timeout => 5) or die "no connection\\n";
print $socket "GET $url HTTP/1.0\\r\\n\\r\\n"; print <$socket>;
"""
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
    isolation = UnshareIsolation(place, reactor, proxy=ArchiveProxy(reactor))
    await isolation.recover()
    log = BuildLog(place / "log", 1 << 20)
    children = Children(reactor, log, 300, 300)
    namespaces = Namespaces(place, reactor)
    sha1 = parse_sha1(hashlib.sha1(tarball.encode()).hexdigest())
    base = await isolation.unpack(Path(tarball), sha1, children)
    root = isolation.open([base], place / "builds" / "one" / "root-1", children)

    async def said(*argv: str, network: Reach | None = None, **beside: Any) -> str:
        before = log.size
        if beside:
            await root.run_beside(argv, **{"env": {}, "cwd": Path("/"), "visible": [], "network": network, **beside})
        else:
            await root.run(argv, network=network, output=log.write)
        return log.tail(log.size - before).decode() if log.size > before else ""

    found = {"inside": await said("sh", "-c", "ls -A /mnt; ls -d /proc/[0-9]*; id -u; cat /proc/net/dev | wc -l")}
    found["overlay"] = await said("grep", " / / ", "/proc/self/mountinfo")
    await said("sh", "-c", PLANT)
    victim = place / "layers" / "owned"
    escape = ["/usr/bin/esc", "-e", ESCAPE.replace("VICTIM", str(victim))]
    found["beside"] = await said("chroot", str(root.path), *escape, visible=[])
    found["signal"] = json.dumps(await _signals(said, namespaces))
    found["setuid"] = await said(*NOBODY, "/usr/bin/esc-id", "-u")
    setuid = await namespaces.run([*NOBODY, str(root.changes / "usr/bin/esc-id"), "-u"])
    found["setuid outside"] = setuid.decode()
    found["owned"] = str(victim.exists())
    found["host"] = await said("sh", "-c", f"ls / ; ls {place} {place}/layers; ls /home /root /srv", visible=[])
    touch = "for where in /usr /etc/alternatives /usr/share/doc; do touch $where/x; done"
    found["host, written"] = await said("sh", "-c", touch, visible=[])
    room = ("df", "--block-size=1M", "--output=size", "/dev", "/tmp")
    found["room"] = await said(*room, visible=[])
    found |= await _privileges(said, namespaces)
    found |= await _network(reactor, said)
    found["host name"] = await said("hostname", visible=[])
    visible = place / "builds/one/visible"
    visible.mkdir()
    await said("touch", str(visible / "written"), visible=[visible])
    found["visible"] = str((visible / "written").exists())
    found["lost kills"] = str(await _lost_kills(reactor, children))
    await isolation.remove(place / "builds" / "one")
    found["left"] = " ".join(path.name for path in (place / "builds").iterdir())
    log.close()
    print(json.dumps(found))


async def _privileges(said: Any, namespaces: Namespaces) -> dict[str, str]:
    """What root of a namespace can do, and root of a build cannot."""
    tried = {
        "mount": "mount -t tmpfs none /tmp && echo done",
        "hostname": "hostname other && echo done",
        "new user": "unshare --user true && echo done",
        "new mounts": "unshare --map-root-user --mount mount -t tmpfs none /tmp && echo done",
        "umask": "umask",
        "environment": "exec env",
        "devices": "ls /dev; find /dev -type b",
        "signals": "exec grep -E 'Sig(Ign|Blk)' /proc/self/status",
        "interrupts": "head -c 4 /proc/interrupts | wc -c",
        "writable": f"unshare --net sh -c '{FORWARD}' || sh -c '{FORWARD}'",
        "remount": f"mount -o remount,bind,rw /proc/sys; umount /proc/sys; umount /proc/interrupts; sh -c '{FORWARD}'",
    }
    found = {}
    for name, script in tried.items():
        found[f"{name}, outside"] = (await namespaces.run(["sh", "-c", f"{{ {script}; }} 2>&1 || true"])).decode()
        found[f"{name}, inside"] = await said("sh", "-c", script)
        found[f"{name}, beside"] = await said("sh", "-c", script, visible=[])
    return found


async def _network(reactor: Any, said: Any) -> dict[str, str]:
    """A server of the host's, which is an archive for one command, and none of another's business."""
    site = Resource()  # type: ignore[no-untyped-call]
    archive = Resource()  # type: ignore[no-untyped-call]
    archive.putChild(b"Release", Data(b"Origin: here", "text/plain"))  # type: ignore[no-untyped-call]
    site.putChild(b"debian", archive)
    site.putChild(b"secret", Data(b"secret", "text/plain"))  # type: ignore[no-untyped-call]
    port = reactor.listenTCP(0, Site(site), interface="127.0.0.1")  # type: ignore[no-untyped-call]
    host = f"127.0.0.1:{port.getHost().port}"
    reach = Reach.of([f"http://{host}/debian"])
    fetch = ("perl", "-e", FETCH)
    proxied = {"network": reach}
    outside = await getProcessOutput("perl", ["-e", FETCH, "/secret", host])  # type: ignore[no-untyped-call]
    return {
        "outside": outside.decode(),
        "archive": await said(*fetch, f"http://{host}/debian/Release", "127.0.0.1:3128", **proxied),
        "archive, beside": await said(*fetch, f"http://{host}/debian/Release", "127.0.0.1:3128", visible=[], **proxied),
        "by the proxy": await said(*fetch, f"http://{host}/secret", "127.0.0.1:3128", **proxied),
        "directly": await said(*fetch, "/secret", host, **proxied),
        "no network": await said(*fetch, f"http://{host}/debian/Release", "127.0.0.1:3128"),
        "inherited": await said("sh", "-c", "exec ls /proc/self/fd", **proxied),
        "of the first": await said("sh", "-c", "ls -l /proc/1/fd", **proxied),
    }


async def _signals(said: Any, namespaces: Namespaces) -> dict[str, int]:
    """How often this process hears a signal that is sent to "all of my process group"."""
    heard: list[int] = []
    signal.signal(signal.SIGURG, lambda *_: heard.append(1))  # It harms nobody who does not listen.
    signal_group = ("sh", "-c", "kill -URG 0")
    times = {}
    await namespaces.run(signal_group)
    times["outside"] = len(heard)
    await said(*signal_group)
    times["inside"] = len(heard) - sum(times.values())
    await said(*signal_group, visible=[])
    times["beside"] = len(heard) - sum(times.values())
    return times


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
