"""An archive that asks for a password: one package in a flat repository, on the loopback."""

import base64
import functools
import http.server
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

_CONTROL = """\
Package: {name}
Version: 1.0
Architecture: all
Maintainer: Debfarm Tests <tests@debfarm.invalid>
Description: package that only some may have
"""


class PrivateArchive:
    """Serves /usr/share/NAME/here in a package NAME, to whom the credentials are known."""

    def __init__(self, name: str, user: str, password: str) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="archive-"))
        tree = self._folder / "tree"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "DEBIAN/control").write_text(_CONTROL.format(name=name))
        (tree / "usr/share" / name).mkdir(parents=True)
        (tree / "usr/share" / name / "here").touch()
        repository = self._folder / "private"
        repository.mkdir()
        build = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(repository / f"{name}.deb")]
        subprocess.run(build, check=True, capture_output=True)
        listed = subprocess.run(["dpkg-scanpackages", "."], cwd=repository, check=True, capture_output=True)
        (repository / "Packages").write_bytes(listed.stdout)
        expected = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        handler = functools.partial(_AskingFiles, expected, directory=str(self._folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True)
        self._thread.start()

    def line(self, user: str, password: str) -> str:
        """For sources.list."""
        return f"deb [trusted=yes] http://{user}:{password}@127.0.0.1:{self._server.server_port}/private ./"

    def close(self) -> None:
        """Serve no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        shutil.rmtree(self._folder)


class _AskingFiles(http.server.SimpleHTTPRequestHandler):
    def __init__(self, expected: str, *args: object, **more: object) -> None:
        self._expected = expected
        super().__init__(*args, **more)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.headers.get("Authorization") == self._expected:
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", "Basic realm=private")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: a test's output is not the place."""
