"""What an escape would reach: files, processes, memory, servers of this machine, none of a build's business.

All of it tells the secret to whoever gets there; the program that tries (escapes/probe.c) is told where it is.
"""

import contextlib
import ctypes
import hashlib
import http.server
import os
import socket
import socketserver
import subprocess
import threading
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftests.hostile import SECRET, HostileArchive
from ftests.own_network import METADATA
from harness import BuilddTestSetup
from tools.account import Account

_ABSTRACT, _KEY = "debfarm-escapes", "debfarm-escapes"
# Of this process, as all tests of the machine see them.
_SHM_KEY = 0x64650000 | os.getpid() & 0xFFFF
_POSIX_SHM = Path(f"/dev/shm/debfarm-escapes-{os.getpid()}")
_IPC_CREAT = 0o1000


@dataclass(frozen=True)
class Victims:
    """What there is to attack."""

    process: "subprocess.Popen[bytes]"  # To be ended, and robbed of a file.
    proxy: int  # The port of a proxy that goes wherever it is sent.
    config: str  # The probe's configuration, as it is inside.


def make_victims(stack: contextlib.ExitStack, setup: BuilddTestSetup, archive: HostileArchive, place: Path) -> Victims:
    """Make them, until the stack is closed.

    :param place: a directory for their files, to be made.
    """
    setup.account.make_directory(place)
    _forge_results(place)
    process = _start_process(stack, setup.account, place)
    ports = {
        "port": _serve(stack, socket.AF_INET, "127.0.0.1"),
        "port6": _serve(stack, socket.AF_INET6, "::1"),
        "metadata": _serve(stack, socket.AF_INET, METADATA),
    }
    _serve(stack, socket.AF_UNIX, f"\0{_ABSTRACT}")
    archive.redirect = f"http://127.0.0.1:{ports['port']}/"
    files = _make_secrets(setup, place)
    _share_memory(stack)
    lines = {
        **files,
        "directory": setup.directory,
        "setuid": "/usr/lib/hostile/setuid",
        "pid": process.pid,
        "rpc": setup.port,
        **ports,
        "abstract": _ABSTRACT,
        "shm_key": _SHM_KEY,
        "posix_shm": _POSIX_SHM,
        "key": _KEY,
        **_by_proxy(ports, archive, f"127.0.0.1:{setup.port}/filecache/{files['cache'].name}"),
    }
    return Victims(process, _open_proxy(stack), "".join(f"{key} {value}\n" for key, value in lines.items()))


def _make_secrets(setup: BuilddTestSetup, place: Path) -> dict[str, Path]:
    """Files that are the host's, the daemon's, and another build's."""
    found = {
        "file": place / "secret",
        "cache": setup.directory / "filecache/0123456789012345678901234567890123456789",
        "other_build": setup.account.make_directory(setup.directory / "builds/other") / "secret",
    }
    for path in found.values():
        path.write_text(SECRET)
    for path in (found["cache"], found["other_build"]):
        os.chown(path, setup.account.uid, setup.account.gid)
    return found


def _start_process(stack: contextlib.ExitStack, account: Account, place: Path) -> "subprocess.Popen[bytes]":
    """One that sleeps, with a file open that nobody else has."""
    held = account.make_directory(place / "held") / "file"
    sleeping = f"exec 9>>{held}; exec -a debfarm-victim sleep 600"
    process = subprocess.Popen(account.command(["bash", "-c", sleeping]))
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def _by_proxy(ports: dict[str, int], archive: HostileArchive, rpc: str) -> dict[str, str]:
    """What to ask a proxy for: what it is there for, and what it must refuse."""
    host = f"127.0.0.1:{archive.port}"
    return {
        "proxy_archive": f"GET http://{host}/archive/hello",
        "proxy_beside": f"GET http://{host}/beside",
        "proxy_climbing": f"GET http://{host}/archive/../beside",
        "proxy_loopback": f"GET http://127.0.0.1:{ports['port']}/",
        "proxy_localhost": f"GET http://localhost:{ports['port']}/",
        "proxy_loopback6": f"GET http://[::1]:{ports['port6']}/",
        "proxy_metadata": f"GET http://{METADATA}:{ports['metadata']}/",
        "proxy_rpc": f"GET http://{rpc}",
        "proxy_connect": f"CONNECT 127.0.0.1:{ports['port']}",
        "proxy_redirect": f"GET http://{host}/archive/redirect",
        "proxy_redirected": f"GET {archive.redirect}",
    }


def _forge_results(place: Path) -> None:
    """What a daemon that follows links out of a build would serve as its results."""
    digests = {name: hashlib.new(name, SECRET.encode()).hexdigest() for name in ("md5", "sha1", "sha256")}
    row = f"{len(SECRET)} forged.deb"
    text = (
        "Format: 1.8\nSource: forged\nBinary: forged\nArchitecture: all\nVersion: 1.0\nDistribution: bookworm\n"
        f"Checksums-Sha1:\n {digests['sha1']} {row}\nChecksums-Sha256:\n {digests['sha256']} {row}\n"
        f"Files:\n {digests['md5']} {len(SECRET)} misc optional forged.deb\n"
    )
    for folder in (place, place / "results"):
        folder.mkdir(exist_ok=True)
        (folder / "forged_1.0_all.changes").write_text(text)
        (folder / "forged.deb").write_text(SECRET)


def _share_memory(stack: contextlib.ExitStack) -> None:
    """A segment of shared memory for all who know its key, and a file for all who see it."""
    _POSIX_SHM.write_text(SECRET)
    stack.callback(_POSIX_SHM.unlink)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.shmat.restype = ctypes.c_void_p
    segment = libc.shmget(_SHM_KEY, 4096, _IPC_CREAT | 0o666)
    assert segment >= 0, os.strerror(ctypes.get_errno())
    stack.callback(libc.shmctl, segment, 0, None)
    ctypes.memmove(libc.shmat(segment, None, 0), SECRET.encode(), len(SECRET))


def add_key(account: Account | None) -> None:
    """A key in the keyring of the account that the daemon runs as (keyctl(2)), so that there is one to find."""
    code = (
        "import ctypes, platform;"
        "n = {'x86_64': 248, 'aarch64': 217}[platform.machine()];"
        f"ctypes.CDLL(None).syscall(n, b'user', {_KEY.encode()!r}, b'x', 1, -4)"
    )
    argv = ["/usr/bin/python3", "-c", code]
    subprocess.run(account.command(argv) if account else argv, check=True)


class _Telling(socketserver.StreamRequestHandler):
    """Says the secret to whoever connects."""

    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.connection.settimeout(0.2)
            self.connection.recv(4096)
        with contextlib.suppress(OSError):
            self.connection.sendall(f"HTTP/1.0 200 OK\r\n\r\n{SECRET}".encode())


def _serve(stack: contextlib.ExitStack, family: socket.AddressFamily, address: str) -> int:
    """Listen there, and tell the secret; the port, where there are ports."""

    class Server(socketserver.ThreadingTCPServer):
        address_family = family
        daemon_threads = True

    where: Any = address if family == socket.AF_UNIX else (address, 0)
    server = Server(where, _Telling)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return 0 if family == socket.AF_UNIX else int(server.server_address[1])


class _Proxy(http.server.BaseHTTPRequestHandler):
    """A proxy that goes wherever it is sent: what our own must not be."""

    def do_GET(self) -> None:
        try:
            with urllib.request.urlopen(self.path, timeout=5) as answer:
                content = answer.read()
        except OSError:
            content = b""
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + content)

    def do_CONNECT(self) -> None:
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), 5) as other:
            other.sendall(b"GET / HTTP/1.0\r\n\r\n")
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n" + other.recv(4096))

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test's output is not the place."""


def _open_proxy(stack: contextlib.ExitStack) -> int:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Proxy)
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return server.server_port
