"""What a hostile package brings along, and an archive of anybody's that serves it: a build-dependency whose maintainer
script and programs run as root of a build's namespaces, and source packages that use them."""

import functools
import http.server
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ftests.tiny_source import tiny_source

SECRET = "debfarm-secret"  # As in probe.c.
PROBE = Path(__file__).parent / "escapes/probe.c"
HOSTILE = "hostile"  # The package.
_HOME = "usr/lib/hostile"

_CONTROL = """\
Package: {name}
Version: 1.0
Architecture: all
Maintainer: Debfarm Tests <tests@debfarm.invalid>
Description: package that nobody should trust
"""
# The maintainer script: root of the build's namespaces, while apt runs.
_POSTINST = """\
#!/bin/sh
/usr/lib/hostile/probe install /usr/lib/hostile/config
for name in chown find date; do
    mv /usr/bin/$name /usr/lib/hostile/$name
    cp /usr/lib/hostile/wrapper-$name /usr/bin/$name
done
echo owned >/usr/bin/hostile-was-here
echo 'hostile-was-here' >>/etc/profile
exit 0
"""
# In place of programs that root calls while the package builds; what it prints is the real program's. The package shows
# what else came of it, as sbuild shows nothing of these.
_AS_ROOT = """\
if [ "$(id -u)" = 0 ] && [ ! -e /tmp/probed ]; then
    : >/tmp/probed
    /usr/lib/hostile/probe root /usr/lib/hostile/config | cat >/tmp/probes
fi
if [ "$(id -u)" = 0 ] && ls /build/*/vandal_*.dsc >/dev/null 2>&1; then
    /usr/lib/hostile/probe --vandalise /usr/lib/hostile/config >>/tmp/vandalised
fi
"/usr/lib/hostile/$NAME" "$@"
status=$?
for attack in /build/*/*/attack-root; do
    [ "$(id -u)" = 0 ] && [ -f "$attack" ] && [ "$NAME" = find ] && sh "$attack" >&2
done
exit $status
"""
# The last that dpkg-buildpackage runs, as the build user.
_GENCHANGES = """\
#!/bin/sh
/usr/bin/dpkg-genchanges "$@" || exit
[ ! -f attack ] || sh ./attack >&2
"""


@dataclass
class HostileArchive:
    """A flat archive at /archive/, with a package `hostile` once it is published; and a redirect out of it.

    And with a fakeroot, which every build wants, and which none of ours needs.
    """

    port: int = field(init=False)

    def __post_init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="archive-"))
        (self._folder / "archive").mkdir()
        (self._folder / "archive/hello").write_text(SECRET)  # What may be reached.
        (self._folder / "beside").write_text(SECRET)
        self.redirect = ""
        handler = functools.partial(_Redirecting, self, directory=str(self._folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.port = self._server.server_port
        self.add("fakeroot", {"usr/bin/fakeroot": (b'#!/bin/sh\nexec "$@"\n', 0o755)})
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    @property
    def line(self) -> str:
        """For sources.list."""
        return f"deb [trusted=yes] http://127.0.0.1:{self.port}/archive ./"

    def publish(self, probe: Path, config: str) -> None:
        """Publish the package.

        :param probe: the program, linked statically.
        :param config: what it is to try.
        """
        files: dict[str, tuple[bytes, int]] = {
            "DEBIAN/postinst": (_POSTINST.encode(), 0o755),
            f"{_HOME}/probe": (probe.read_bytes(), 0o755),
            f"{_HOME}/setuid": (probe.read_bytes(), 0o4755),
            f"{_HOME}/config": (config.encode(), 0o644),
            "usr/local/bin/dpkg-genchanges": (_GENCHANGES.encode(), 0o755),
        }
        for name in ("chown", "find", "date"):
            files[f"{_HOME}/wrapper-{name}"] = (f"#!/bin/sh\nNAME={name}\n{_AS_ROOT}".encode(), 0o755)
        self.add(HOSTILE, files)

    def add(self, name: str, files: Mapping[str, tuple[bytes, int]]) -> None:
        """Publish a package: content and mode of its files, and of what dpkg is told of it."""
        tree, archive = self._folder / "tree", self._folder / "archive"
        for path, (content, mode) in {"DEBIAN/control": (_CONTROL.format(name=name).encode(), 0o644), **files}.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
            (tree / path).chmod(mode)
        build = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(archive / f"{name}.deb")]
        subprocess.run(build, check=True, capture_output=True)
        shutil.rmtree(tree)
        listed = subprocess.run(["dpkg-scanpackages", "."], cwd=archive, check=True, capture_output=True)
        (archive / "Packages").write_bytes(listed.stdout)

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        shutil.rmtree(self._folder)


class _Redirecting(http.server.SimpleHTTPRequestHandler):
    def __init__(self, archive: HostileArchive, *args: object, **more: object) -> None:
        self._archive = archive
        super().__init__(*args, **more)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path != "/archive/redirect":
            super().do_GET()
            return
        self.send_response(302)
        self.send_header("Location", self._archive.redirect)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test's output is not the place."""


# --- source packages


def probe_source(folder: Path) -> Path:
    """A harmless one, whose package has the probe at usr/lib/hostile/probe."""
    install = f"install -D probe debian/tree/{_HOME}/probe"
    build = "$(CC) -w -O -static -o probe probe.c"
    return tiny_source(folder, "probe", build=build, install=install, files={"probe.c": PROBE.read_bytes()})


def hostile_source(folder: Path, name: str, build: str = "true", **attacks: str) -> Path:
    """One that has the hostile package installed.

    :param attacks: `attack`, a shell script that the build user runs in the source when the .changes is written, and
        `attack_root`, one that root of the namespaces runs after that, where the package builder is `direct`.
    """
    files: Mapping[str, bytes] = {
        key.replace("_", "-"): (_PRELUDE + script).encode() for key, script in attacks.items()
    }
    return tiny_source(folder / name, name, build=build, needs=HOSTILE, files=files)


# forge FILE NAME: a .changes that names NAME, with FILE's size and digests.
_PRELUDE = """\
set -e
changes=$(ls ../*.changes 2>/dev/null || true)
deb=$(ls ../*.deb 2>/dev/null | grep -v dbgsym || true)
forge() {
    size=$(stat -c %s "$1")
    set -- "$2" "$size" $(md5sum <"$1" | cut -c-32) $(sha1sum <"$1" | cut -c-40) $(sha256sum <"$1" | cut -c-64)
    write_changes "$@"
}
write_changes() {
    cat >"$changes" <<END
Format: 1.8
Date: Sat, 01 Jun 2024 12:00:00 +0000
Source: forged
Binary: forged
Architecture: $(dpkg --print-architecture)
Version: 1.0
Distribution: bookworm
Checksums-Sha1:
 $4 $2 $1
Checksums-Sha256:
 $5 $2 $1
Files:
 $3 $2 misc optional $1
END
}
"""
