"""A program that keeps a layer which a malicious package has made; run by test_keeping.py as the unprivileged account.

`python3 keeping.py DIRECTORY TARBALL` prints a JSON object: what came of it.
"""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater, react

from buildd.buildlog import BuildLog
from buildd.isolation.layers import layer_key
from buildd.isolation.unshare import UnshareIsolation
from buildd.process import Children
from buildd.protocol import parse_sha1

KEY = layer_key("malicious")
# Deeper than a path may be long; names that are no text, or as long as can be, or would end a line; files of users that
# this account is not, which nobody may read; and a root that belongs to somebody else.
PLANT = """
mkdir "/a\\nb" or die; open F, ">", "/a\\nb/\\xff" or die; print F "here"; close F;
chown 1234, 1234, "/a\\nb/\\xff"; chmod 0, "/a\\nb/\\xff"; mkdir "/" . "e" x 255, 0 or die;
chown 1000, 1000, "/", "/a\\nb"; chmod 0700, "/";
for (1..40) {mkdir "d" x 200 or die; chdir "d" x 200 or die}
"""


async def main(reactor: Any, directory: str, tarball: str) -> None:
    """Keep it, find it, change it, drop it."""
    place = Path(directory)
    build = place / "builds" / "one"
    build.mkdir(parents=True)
    maker = UnshareIsolation(place, reactor)
    await maker.recover()
    log = BuildLog(place / "log", 1 << 20)
    children = Children(reactor, log, 300, 300)
    sha1 = parse_sha1(hashlib.sha1(tarball.encode()).hexdigest())
    base = await maker.unpack(Path(tarball), sha1, children)
    root = maker.open([base], build / "root-1", children)
    found = {"planted": str(await root.run(["perl", "-e", PLANT], network=None))}
    (await maker.keep(KEY, root, "{}")).release()
    while not all(stored.seal for stored in maker.layers.stored()):
        await deferLater(reactor, 0.05)

    later = UnshareIsolation(place, reactor)
    layer = await later.find(KEY)
    assert layer is not None
    root, said = later.open([layer, base], build / "root-2", children), bytearray()
    command = ["sh", "-c", "cat /a*/*; stat -c ' %u' /a*/*; ls -d / /e* /ddd*/ddd* | wc -c"]
    await root.run(command, network=None, output=said.extend)
    found["found"] = said.decode(errors="replace")
    found["sound"] = str([await later.layers.verify(stored, content=True) for stored in later.layers.stored()])
    layer.release()

    await later._namespaces.run(["sh", "-c", 'chmod 755 "$0"/a*/*', str(layer.tree)])
    found["found when changed"] = str(await UnshareIsolation(place, reactor).find(KEY))
    base.release()
    found["dropped"] = str([await later.layers.drop(stored) for stored in later.layers.stored()])
    await later.remove(build)
    left = [*(place / "builds").iterdir(), *(place / "scratch").iterdir(), *(place / "layers").rglob("*")]
    found["left"] = " ".join(os.fspath(path.relative_to(place)) for path in left)
    log.close()
    print(json.dumps(found))


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
