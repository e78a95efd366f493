"""Uses a backend of isolation as builds do, and in ways that builds should not; run by test_backends.py.

`python3 backend_trial.py BACKEND DIRECTORY TARBALL` prints a JSON object: what was done, and what came of it.
`... TARBALL SECONDS` runs `sleep SECONDS` in a root, prints a line once it runs, and is to be killed. With no digits in
SECONDS, it removes what is left of that.
"""

import hashlib
import io
import json
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater, react
from twisted.web.resource import Resource
from twisted.web.server import Site

from buildd.buildlog import BuildLog
from buildd.config import IsolationName
from buildd.isolation import BrokenChroot, Root
from buildd.isolation.choose import KINDS
from buildd.isolation.layered import LayeredIsolation
from buildd.isolation.layers import Layer, layer_key, layer_note
from buildd.limits import Limit
from buildd.process import Children, Exit
from buildd.protocol import Sha1, parse_sha1
from buildd.proxy import ArchiveProxy
from buildd.reach import Reach, parse_url

LOG_MAX = 1 << 20
BEGUN_S = 20.0
MARK = "98765"  # Seconds that only a process of ours sleeps.
# Asks the proxy of its network namespace for what the first argument names.
FETCH = (
    r'exec 3<>/dev/tcp/127.0.0.1/3128 && printf "GET %s HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n" "$0" >&3'
    " && cat <&3"
)
CHANGE = """
mkdir -p /made/empty && echo deep >/made/file && chown 1000:33 /made/file && chmod 4750 /made/file
rm /etc/debian_version && rm -r /usr/share/doc && mkdir /usr/share/doc && touch /usr/share/doc/new
"""
LOOK = "stat -c '%u:%g %a' /made/file; cat /made/file; ls -d /etc/debian_version; ls /usr/share/doc"
RUNAWAYS = f"(setsid sleep {MARK} &); trap '' TERM; (sleep {MARK} & sleep {MARK} & echo begun; wait); sleep {MARK}"
# Each must print nothing but what it is not to be able to do.
ATTEMPTS = {
    "make a device": "mknod /tmp/disk b 259 0 && echo made",
    "mount": "mount -t tmpfs none /mnt 2>/dev/null && echo mounted",
    "change the kernel": "for f in kernel/core_pattern vm/swappiness; do (echo 1 >/proc/sys/$f) && echo $f; done",
    "press a key": "(echo h >/proc/sysrq-trigger) && echo pressed",
    "read memory": "head -c 1 /proc/kcore",
    "see processes": "ls -d /proc/[0-9]* | wc -l | grep -vx '[1-6]'",
    "see the host": "ls -d /root/* DIRECTORY /var/lib/debfarm* /lost+found",
    "find its way out": (
        'perl -e \'mkdir "/tmp/x"; chroot "/tmp/x"; chdir ".." for 1..64; chroot "."; exec "ls DIRECTORY"\''
    ),
    "change what is the daemon's": "cd DIRECTORY && touch touched && echo touched",
    "change the clock": "date -s 2001-01-01 >/dev/null && echo set",
    "keep privileges": "grep NoNewPrivs /proc/self/status | grep -v 1; grep Seccomp: /proc/self/status | grep -v 2",
}
ATTEMPTS_BESIDE = {
    "read secrets": "cat /etc/shadow",
    "change programs": "touch /usr/bin/touched && echo touched; touch /etc/passwd && echo touched",
    "see homes": "ls /root /home /srv",
    "see other builds": "ls DIRECTORY/layers DIRECTORY/filecache",
}


class Page(Resource):
    """A file of a server."""

    isLeaf = True

    def __init__(self, content: bytes) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.content = content

    def render_GET(self, _: Any) -> bytes:
        """The content."""
        return self.content


class Trial:
    """A backend, with a chroot unpacked."""

    def __init__(self, reactor: Any, backend: str, directory: str) -> None:
        self.reactor = reactor
        self.place = Path(directory)
        self.builds = self.place / "builds"
        (self.builds / "one").mkdir(parents=True, exist_ok=True)
        proxy = ArchiveProxy(reactor)
        self.isolation: LayeredIsolation = KINDS[IsolationName(backend)](self.place, reactor, proxy=proxy)
        self.log = BuildLog(self.place / "log", LOG_MAX)
        self.roots = 0

    def children(self, timeout_s: float = 120, silence_s: float = 120, log: BuildLog | None = None) -> Children:
        return Children(self.reactor, log or self.log, timeout_s, silence_s)

    def open(self, *layers: Layer, children: Children | None = None) -> Root:
        self.roots += 1
        return self.isolation.open(layers, self.builds / "one" / f"root-{self.roots}", children or self.children())

    async def said(self, root: Root, script: str, *arguments: str, reach: Reach | None = None) -> str:
        """Standard output of a script in bash, and what it complains of goes to the log."""
        kept = bytearray()
        await root.run(["bash", "-c", script, *arguments], network=reach, output=kept.extend)
        return kept.decode(errors="replace").strip()

    async def said_beside(self, root: Root, script: str) -> str:
        before = self.log.size
        argv = ["sh", "-c", f"exec 2>/dev/null; {script}"]
        await root.run_beside(argv, env={}, cwd=Path("/"), visible=[])
        return self.log.tail(self.log.size - before).decode().strip() if self.log.size > before else ""


async def main(reactor: Any, backend: str, directory: str, tarball: str, *seconds: str) -> None:
    """Do it all, and print what came of it."""
    trial = Trial(reactor, backend, directory)
    await trial.isolation.recover()
    base = await trial.isolation.unpack(Path(tarball), sha1_of(tarball), trial.children())
    if seconds:
        await hang(trial, base, *seconds)
        return
    again = await trial.isolation.unpack(Path(tarball), sha1_of(tarball), trial.children())
    found: dict[str, Any] = {"unpacked once": again.tree == base.tree}
    found["broken"] = [await broken(trial, kind) for kind in ("absolute", "leads out", "cut off", "no archive")]
    found |= await in_a_root(trial, trial.open(base))
    found["put"] = await put(trial, base)
    found["layer"] = await layer(trial, base)
    if backend == IsolationName.PODMAN:
        found["image"] = await image(trial)
    found["turns"] = await turns(trial)
    found["limits"] = await limits(trial, base)
    found["aborted"] = await aborted(trial, base)
    usage = await trial.isolation.usage(trial.builds / "one")
    found["usage"] = usage.bytes > 0 and usage.files > 10
    base.release()
    again.release()
    found |= await left(trial)
    trial.log.close()
    print(json.dumps(found))


async def in_a_root(trial: Trial, root: Root) -> dict[str, Any]:
    """What commands do in a root, and beside it, that change nothing there."""
    directory = str(trial.place)
    found = {**await ends(trial, root), **await words_in_and_out(trial, root), **await network(trial, root)}
    found["attempts"] = {
        what: await trial.said(root, f"exec 2>/dev/null; {how.replace('DIRECTORY', directory)}")
        for what, how in ATTEMPTS.items()
    }
    found["groups"] = await trial.said(root, "cat /proc/self/cgroup") == Path("/proc/self/cgroup").read_text().strip()
    if trial.isolation.way.beside:
        found["attempts beside"] = {
            what: await trial.said_beside(root, how.replace("DIRECTORY", directory))
            for what, how in ATTEMPTS_BESIDE.items()
        }
        found["beside"] = await trial.said_beside(root, f"id -u; ls {root.path}/usr; sbuild --version | head -n 1")
    return found


async def left(trial: Trial) -> dict[str, Any]:
    """What is left of all that when the build is removed."""
    await trial.isolation.remove(trial.builds / "one")
    layers = trial.isolation.layers.directory
    while list(layers.glob("making-*")):  # What failed is removed while builds go on.
        await deferLater(trial.reactor, 0.05)
    return {
        "left": [path.name for path in (*trial.builds.iterdir(), *(trial.place / "scratch").iterdir())],
        "layers": len(trial.isolation.layers.stored()),
    }


async def hang(trial: Trial, base: Layer, seconds: str) -> None:
    """Run something that is not going to end; or have nothing of it any more."""
    if not seconds:
        await trial.isolation.remove(trial.builds / "one")
        return
    script = f"(setsid sleep {seconds} &); echo begun; sleep {seconds}"
    await trial.open(base).run(["sh", "-c", script], network=None, output=show)


def show(data: bytes) -> None:
    """Print what a command says."""
    sys.stdout.write(data.decode())
    sys.stdout.flush()


def sha1_of(text: str) -> Sha1:
    """Some digest."""
    return parse_sha1(hashlib.sha1(text.encode()).hexdigest())


async def broken(trial: Trial, kind: str) -> str:
    """What comes of a tarball of this kind."""
    path = trial.place / "broken.tar"
    with tarfile.open(path, "w") as archive:
        bad = tarfile.TarInfo("/etc/passwd" if kind == "absolute" else "usr/file")
        if kind == "leads out":
            bad.type, bad.linkname = tarfile.SYMTYPE, "../../etc"
        archive.addfile(bad)
    if kind == "cut off":
        path.write_bytes(path.read_bytes()[:700])
    if kind == "no archive":
        path.write_bytes(b"a chroot? " * 1000)
    try:
        (await trial.isolation.unpack(path, sha1_of(kind), trial.children())).release()
    except BrokenChroot:
        return "broken"
    return "unpacked"


async def ends(trial: Trial, root: Root) -> dict[str, Any]:
    """Exit statuses."""

    async def ended(*argv: str) -> int | None:
        return (await root.run(argv, network=None)).code

    return {
        "exits": [await ended("true"), await ended("sh", "-c", "exit 3"), await ended("sh", "-c", "kill -9 $$")],
        "missing": await ended("no-such-program"),
    }


async def words_in_and_out(trial: Trial, root: Root) -> dict[str, Any]:
    """Standard input and output, the log, and what a command has around it."""
    kept = bytearray()
    before = trial.log.size
    script = "cat; echo complaint >&2; echo $1"
    stdin = b"x" * 300_000
    await root.run(["sh", "-c", script, "sh", "a b'c\"$d"], network=None, stdin=stdin, output=kept.extend)
    return {
        "output": kept.decode() == stdin.decode() + "a b'c\"$d\n",
        "log": trial.log.tail(trial.log.size - before).decode(),
        "environment": (await trial.said(root, "env -u _ -u SHLVL -u OLDPWD -u PWD | cut -d = -f 1 | sort")).split(),
        "around": (await trial.said(root, "pwd; id -u; umask; hostname; tty")).splitlines(),
        "reaped": await trial.said(
            root, "(sleep 0.1 & echo $! >/tmp/it); sleep 0.6; kill -0 $(cat /tmp/it) || echo yes"
        ),
    }


async def network(trial: Trial, root: Root) -> dict[str, Any]:
    """What there is to reach, with and without."""
    site = Resource()  # type: ignore[no-untyped-call]
    for name in (b"archive", b"secret"):
        folder = Resource()  # type: ignore[no-untyped-call]
        folder.putChild(b"file", Page(b"content of " + name))
        site.putChild(name, folder)
    served = Site(site)  # type: ignore[no-untyped-call]
    listening = trial.reactor.listenTCP(0, served, interface="127.0.0.1")
    url = f"http://127.0.0.1:{listening.getHost().port}"
    reach = Reach(archives=(parse_url(f"{url}/archive/"),))
    direct = f"exec 3<>/dev/tcp/127.0.0.1/{listening.getHost().port} && echo reached"
    return {
        "interfaces": await trial.said(root, "tail -n +3 /proc/net/dev | cut -d : -f 1"),
        "without": await trial.said(root, f"{FETCH}", f"{url}/archive/file"),
        "archive": "content of archive" in await trial.said(root, FETCH, f"{url}/archive/file", reach=reach),
        "elsewhere": "content of secret" in await trial.said(root, FETCH, f"{url}/secret/file", reach=reach),
        "past the proxy": await trial.said(root, direct, reach=reach),
    }


async def put(trial: Trial, base: Layer) -> list[str]:
    """What a command sees of a file that was put there, and what is left of it in the changes."""
    root = trial.open(base)
    root.put("note", b"content\n")
    seen = await trial.said(root, "stat -c '%u:%g %a' /note; cat /note")
    root.take_back("note")
    left = [path.name for path in root.changes.iterdir() if path.name not in ("etc", "run", "tmp")]
    return [
        *seen.splitlines(),
        f"left {left}",
        await trial.said(root, "ls /note 2>&1 | wc -l; ls -d /note 2>/dev/null"),
    ]


async def layer(trial: Trial, base: Layer) -> dict[str, Any]:
    """A layer of what was changed, found again and built upon."""
    isolation, key = trial.isolation, layer_key("trial")
    root = trial.open(base)
    changed = await root.run(["sh", "-ec", CHANGE], network=None)
    kept = await isolation.keep(key, root, layer_note("trial", "", "of a test"))
    found = await isolation.find(key)
    assert found is not None
    on_top = trial.open(found, base)
    seen = await trial.said(on_top, f"{LOOK} 2>/dev/null")
    await on_top.run(["rm", "-r", "/made"], network=None)
    below = await trial.said(trial.open(found, base), "cat /made/file")
    for each in (kept, found):
        each.release()
    return {
        "changed": changed.ok,
        "seen": seen.splitlines(),
        "same": found.tree == kept.tree and not root.changes.exists(),
        "untouched": below,
        "nothing of ours": sorted(path.name for path in kept.tree.iterdir()),
        "unknown": await isolation.find(layer_key("another")) is None,
    }


async def image(trial: Trial) -> list[str]:
    """What is in a chroot that comes as an image of two layers, of which the upper one removes a file of the lower."""
    path = trial.place / "image.tar"
    write_image(path, [{"below": b"1", "removed": b"2"}, {"above": b"3", ".wh.removed": b""}])
    chroot = await trial.isolation.unpack(path, sha1_of("image"), trial.children())
    again = await trial.isolation.unpack(path, sha1_of("image"), trial.children())
    chroot.release()
    again.release()
    path.write_bytes(path.read_bytes()[:2048])
    try:
        bad = (await trial.isolation.unpack(path, sha1_of("bad"), trial.children())).note
    except BrokenChroot:
        bad = "broken"
    return [*sorted(file.name for file in chroot.tree.iterdir() if file.is_file()), str(again.tree == chroot.tree), bad]


def write_image(path: Path, layers: Sequence[Mapping[str, bytes]]) -> None:
    """An image's archive as the Open Container Initiative has it; a layer is its files."""
    with tarfile.open(path, "w") as archive:

        def add(kind: str, content: bytes) -> dict[str, Any]:
            digest = hashlib.sha256(content).hexdigest()
            archive.addfile(member(f"blobs/sha256/{digest}", content), io.BytesIO(content))
            media = f"application/vnd.oci.image.{kind}"
            return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(content)}

        blobs = [add("layer.v1.tar", tar_of(layer)) for layer in layers]
        roots = {"type": "layers", "diff_ids": [blob["digest"] for blob in blobs]}
        config = json.dumps({"architecture": "amd64", "os": "linux", "config": {}, "rootfs": roots})
        described = {"schemaVersion": 2, "config": add("config.v1+json", config.encode()), "layers": blobs}
        index = {"schemaVersion": 2, "manifests": [add("manifest.v1+json", json.dumps(described).encode())]}
        for name, value in (("index.json", index), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
            content = json.dumps(value).encode()
            archive.addfile(member(name, content), io.BytesIO(content))


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar archive of these."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            archive.addfile(member(name, content), io.BytesIO(content))
    return written.getvalue()


def member(name: str, content: bytes) -> tarfile.TarInfo:
    """A file in a tar archive."""
    described = tarfile.TarInfo(name)
    described.size = len(content)
    return described


async def turns(trial: Trial) -> list[str]:
    """In which order two work that want to make the same layer."""
    order: list[str] = []

    async def take(name: str) -> None:
        async with trial.isolation.turn(layer_key("wanted by both")):
            order.append(f"{name} begins")
            await deferLater(trial.reactor, 0.2)
            order.append(f"{name} ends")

    first, second = (Deferred.fromCoroutine(take(name)) for name in ("first", "second"))
    await first
    await second
    return order


async def limits(trial: Trial, base: Layer) -> dict[str, Any]:
    """Which limit ended a command, and whether all of it was gone then."""
    small = BuildLog(trial.place / "small-log", 10_000)

    async def ended(children: Children, script: str) -> list[Any]:
        began = time.monotonic()
        ended: Exit = await trial.open(base, children=children).run(["sh", "-c", script], network=None)
        return [ended.limit and Limit(ended.limit).name, len(sleeping()), time.monotonic() - began < 10]

    return {
        "time": await ended(trial.children(timeout_s=1.5), RUNAWAYS),
        "silence": await ended(trial.children(silence_s=1.5), RUNAWAYS),
        "log": await ended(trial.children(log=small), "yes"),
    }


async def aborted(trial: Trial, base: Layer) -> list[Any]:
    """What a command had begun that was cancelled, what was left of that, and whether that was so soon."""
    running = Deferred.fromCoroutine(trial.open(base).run(["sh", "-c", RUNAWAYS], network=None))
    began = time.monotonic()
    while len(sleeping()) < 3 and time.monotonic() - began < BEGUN_S:
        await deferLater(trial.reactor, 0.05)
    started = len(sleeping())
    before = time.monotonic()
    running.cancel()
    try:
        await running
    except CancelledError:
        return [started, len(sleeping()), time.monotonic() - before < 2]
    return ["it was not cancelled"]


def sleeping(words: Sequence[str] = ("sleep", MARK)) -> list[str]:
    """The processes that have this command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cmdline").read_text().split("\0")[:-1] == list(words):
                found.append(process.name)
        except OSError:
            continue
    return found


if __name__ == "__main__":
    react(lambda reactor, *arguments: Deferred.fromCoroutine(main(reactor, *arguments)), sys.argv[1:])
