"""An archive of one's own on the loopback: a few packages, signed or not, served as Debian's mirrors do."""

import atexit
import base64
import functools
import gzip
import hashlib
import http.server
import os
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

_CONTROL = """\
Package: {name}
Version: {version}
Architecture: all
Maintainer: Debfarm Tests <tests@debfarm.invalid>
Description: package of a test's
"""
_OWN_ROOT = (
    *("etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/trusted.gpg.d", "var/lib/apt/lists/partial"),
    *("var/lib/dpkg", "var/cache/apt/archives/partial"),
)


@functools.cache
def _signing_home() -> Path:
    """A GnuPG home with a key, whose public half is in key.gpg; made once for all the tests of a process."""
    home = Path(tempfile.mkdtemp(prefix="gpg-"))
    atexit.register(_forget, home)
    gpg(home, "--passphrase", "", "--quick-gen-key", "tests@debfarm.invalid", "ed25519", "sign")
    (home / "key.gpg").write_bytes(gpg(home, "--export"))
    return home


def _forget(home: Path) -> None:
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, capture_output=True)
    shutil.rmtree(home, ignore_errors=True)


def gpg(home: Path, *arguments: str, data: bytes = b"") -> bytes:
    """Run GnuPG; what it prints."""
    command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--pinentry-mode", "loopback", *arguments]
    return subprocess.run(command, input=data, capture_output=True, check=True).stdout


class SmallArchive:
    """dists/stable with one component, and pool/; or with `flat` all in one folder and without a release file."""

    def __init__(self, *, flat: bool = False, tls: bool = False) -> None:
        """:param tls: it is localhost's, by https, with a certificate that `certificate` alone vouches for."""
        self.folder = Path(tempfile.mkdtemp(prefix="archive-"))
        self.flat = flat
        self.requests: list[tuple[str, int]] = []  # Paths, and how they were answered.
        self.answers: dict[str, int] = {}  # Paths that are answered with this status and nothing else ...
        self.locations: dict[str, str] = {}  # ... or redirected.
        self.password = ""  # user:password, when it asks for that.
        self.origin = "Tests"  # As the release file says.
        self.dated = True  # It says when files were modified.
        (self.folder / "files/pool").mkdir(parents=True)
        handler = functools.partial(_Files, self, directory=str(self.folder / "files"))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        scheme, host = "http", "127.0.0.1"
        self.certificate = self.folder / "certificate"
        if tls:
            scheme, host = "https", "localhost"
            self._server.socket = server_tls(self.certificate, host).wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"{scheme}://{host}:{self._server.server_port}/"

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        shutil.rmtree(self.folder)

    @property
    def line(self) -> str:
        """For sources.list."""
        if self.flat:
            return f"deb [trusted=yes] {self.url} ./"
        return f"deb [signed-by={_signing_home() / 'key.gpg'}] {self.url} stable main"

    @property
    def key(self) -> bytes:
        """The public key of its signatures."""
        return (_signing_home() / "key.gpg").read_bytes()

    def add(self, name: str, version: str = "1.0", size: int = 0, fields: str = "") -> None:
        """Have a package, with so many bytes in it; `publish` tells of it.

        :param fields: more lines for its control file.
        """
        tree = self.folder / "tree"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(_CONTROL.format(name=name, version=version) + fields)
        (tree / "content").write_bytes(os.urandom(size))
        file = self.folder / f"files/pool/{name}_{version}_all.deb"
        build = ["dpkg-deb", "-Znone", "--root-owner-group", "--build", str(tree), str(file)]
        subprocess.run(build, check=True, capture_output=True)
        shutil.rmtree(tree)

    def publish(self, *, apart: bool = False, valid_s: float | None = None, modified: float | None = None) -> None:
        """Write the indexes.

        :param apart: the signature is in a file of its own, Release.gpg.
        :param valid_s: how long from now on.
        :param modified: what the time of the release file is said to be.
        """
        files = self.folder / "files"
        listed = subprocess.run(
            ["dpkg-scanpackages", "--multiversion", "pool"], cwd=files, check=True, capture_output=True
        )
        if self.flat:
            (files / "Packages").write_bytes(listed.stdout)
            return
        suite, packages = files / "dists/stable", gzip.compress(listed.stdout, mtime=0)
        (suite / "main/binary-all/by-hash/SHA256").mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256(packages).hexdigest()
        (suite / "main/binary-all/Packages.gz").write_bytes(packages)
        (suite / "main/binary-all/by-hash/SHA256" / digest).write_bytes(packages)
        fields = {
            **{"Origin": self.origin, "Suite": "stable", "Codename": "stable", "Components": "main"},
            **{"Architectures": "all", "Acquire-By-Hash": "yes"},
            "Date": formatdate(time.time() - 5, usegmt=True),
        }
        if valid_s is not None:
            fields["Valid-Until"] = formatdate(time.time() + valid_s, usegmt=True).replace("GMT", "UTC")
        text = "".join(f"{name}: {value}\n" for name, value in fields.items())
        text += f"SHA256:\n {digest} {len(packages)} main/binary-all/Packages.gz\n"
        text += f" {hashlib.sha256(listed.stdout).hexdigest()} {len(listed.stdout)} main/binary-all/Packages\n"
        self._write_release(suite, text.encode(), apart)
        for file in suite.iterdir():
            if modified is not None and file.is_file():
                os.utime(file, (modified, modified))

    def _write_release(self, suite: Path, text: bytes, apart: bool) -> None:
        for name in ("InRelease", "Release", "Release.gpg"):
            (suite / name).unlink(missing_ok=True)
        if apart:
            (suite / "Release").write_bytes(text)
            (suite / "Release.gpg").write_bytes(gpg(_signing_home(), "--detach-sign", "--armor", data=text))
        else:
            (suite / "InRelease").write_bytes(gpg(_signing_home(), "--clearsign", data=text))


def server_tls(certificate: Path, host: str) -> ssl.SSLContext:
    """What a server of this name needs; the certificate is written to that file, the key beside it."""
    key = certificate.with_suffix(".key")
    made = [*("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")]
    made += ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-days", "2"]
    subprocess.run([*made, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


class _Files(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, archive: SmallArchive, *args: Any, **more: Any) -> None:
        self._archive = archive
        super().__init__(*args, **more)

    def do_GET(self) -> None:
        path = self.path.removeprefix("/")
        if self._archive.password and not self._knows():
            self._empty(401, {"WWW-Authenticate": "Basic realm=private"})
        elif path in self._archive.answers:
            self._empty(self._archive.answers[path], {})
        elif path in self._archive.locations:
            self._empty(302, {"Location": self._archive.locations[path]})
        else:
            if not self._archive.dated:
                del self.headers["If-Modified-Since"]
            super().do_GET()

    def _knows(self) -> bool:
        expected = base64.b64encode(self._archive.password.encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _empty(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_header(self, keyword: str, value: str) -> None:
        if keyword != "Last-Modified" or self._archive.dated:
            super().send_header(keyword, value)

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        self._archive.requests.append((self.path, int(code)))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test's output is not the place."""


class OwnApt:
    """apt with a root directory of its own: nothing of the machine's is looked at or changed."""

    def __init__(self, *lines: str, proxy: str = "", options: tuple[str, ...] = ()) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="apt-"))
        for name in _OWN_ROOT:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        (self.root / "var/lib/dpkg/status").touch()
        (self.root / "etc/apt/sources.list").write_text("".join(f"{line}\n" for line in lines))
        settings = {
            "Dir": str(self.root),
            "Dir::State::status": str(self.root / "var/lib/dpkg/status"),
            "APT::Sandbox::User": "root",
            "APT::Architecture": "amd64",
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::Retries": "0",
            **({"Acquire::http::Proxy": proxy, "Acquire::https::Proxy": proxy} if proxy else {}),
        }
        self.configuration = self.root / "apt.conf"
        text = "#clear DPkg::Post-Invoke;\n" + "".join(f'{name} "{value}";\n' for name, value in settings.items())
        self.configuration.write_text(text + "".join(f"{option}\n" for option in options))
        self.environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "APT_CONFIG": str(self.configuration)}

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.root)

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command of apt's; nothing is raised when that fails."""
        return subprocess.run(
            command, env=self.environment, cwd=self.root, capture_output=True, text=True, check=False, timeout=120
        )

    def update(self) -> bool:
        """Whether `apt-get update` went well, and fetched something new."""
        ended = self.run("apt-get", "update")
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return "\nGet:" in f"\n{ended.stdout}"
