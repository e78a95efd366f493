"""A master of its own process takes uploads in every way that is configured, and by `buildmaster upload`."""

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import select

from buildmaster.tables import source
from buildmaster.tests.factories import CONFIG, make_farm
from buildmaster.tests.ports import free_port
from buildmaster.tests.test_crash_uploads import Master
from buildmaster.tests.uploading import Upload, make_archive


def test_every_way(tmp_path: Path) -> None:
    """HTTP, FTP and SFTP (by scp) with dput, and the command."""
    farm = make_farm(tmp_path)
    make_archive(farm)
    http, ftp, sftp = free_port(), free_port(), free_port()
    with (farm.directory / CONFIG).open("a") as file:
        file.write(
            f"[files]\nport = 0\n[archives]\nport = {http}\n[dependencies]\nlook = no\n"
            f"[uploads]\nftp_port = {ftp}\nsftp_port = {sftp}\n"
        )
    options = f"Port {sftp}\n StrictHostKeyChecking no\n UserKnownHostsFile /nonexistent"
    incoming = "incoming = /upload/debian/mine\n"
    (tmp_path / "dput.cf").write_text(
        f"[http]\nmethod = http\nfqdn = 127.0.0.1:{http}\n{incoming}"
        f"[ftp]\nmethod = ftp\nfqdn = 127.0.0.1:{ftp}\nlogin = anonymous\npassive_ftp = 1\n{incoming}"
        f"[scp]\nmethod = scp\nfqdn = 127.0.0.1\nlogin = ada\nssh_config_options = {options}\n{incoming}"
    )
    master = Master(farm, http)
    environment = {**os.environ, "HOME": str(tmp_path)}
    for number, way in enumerate(("http", "ftp", "scp")):
        changes = Upload(version=f"1.{number}").write(tmp_path / way)
        command = ["/usr/bin/dput", "--config", str(tmp_path / "dput.cf"), "--unchecked", "--force", way, str(changes)]
        sent = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        with farm.reading() as connection:
            versions = list(connection.execute(select(source.c.version).order_by(source.c.id)).scalars())
        assert versions == [f"1.{each}" for each in range(number + 1)], (way, sent)
        assert sent.returncode == 0, (way, sent)
    changes = Upload(version="2.0").write(tmp_path / "command")
    program = [
        sys.executable,
        "-c",
        "from buildmaster.cli import main; main()",
        "--config",
        str(farm.directory / CONFIG),
    ]
    done = subprocess.run(
        [*program, "--dir", str(farm.directory), "upload", str(changes), "--archive", "mine"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "is accepted by debian/mine: hello 2.0" in done.stdout, done
    master.running.terminate()
    assert master.running.wait(30) == 0
    said = master.log.read_text()
    assert said.count("by uploader <uploader@example.org>: accepted") == 3 and "Traceback" not in said, said
    farm.close()
