"""What `upload`, `uploads` and `archive uploader` do."""

from pathlib import Path

import pytest

from buildmaster.cli.tests.conftest import Cli
from buildmaster.tests import gpg
from buildmaster.tests.uploading import Upload


@pytest.fixture
def archive(ready: Cli, tmp_path: Path) -> Cli:
    """debian/mine, whose uploader is `uploader`."""
    ready("archive", "create", "mine")
    certificate = tmp_path / "uploader.asc"
    certificate.write_bytes(gpg.shared().certificate("uploader"))
    said = ready("archive", "uploader", "add", "mine", certificate).out
    assert (
        said == f"uploader <uploader@example.org> ({gpg.shared().fingerprint('uploader')}) may upload to debian/mine\n"
    )
    return ready


def test_uploaders(archive: Cli, tmp_path: Path) -> None:
    """They are added, listed, replaced and removed; a certificate that is no good is refused with the reason."""
    keys = gpg.Keys()
    for name, more in (("expired", gpg.PAST), ("second", ())):
        (tmp_path / f"{name}.asc").write_bytes(keys.make(name, *more, expires="1d" if more else "never"))
    assert "expired on 2020-01-02" in archive("archive", "uploader", "add", "mine", "expired.asc", status=1).err
    assert archive("archive", "uploader", "add", "mine", "second.asc", "--json").json["name"].startswith("second")
    assert "is replaced" in archive("archive", "uploader", "add", "debian/mine", "second.asc").out
    listed = archive("archive", "uploader", "list", "mine").out.splitlines()
    assert [line.split()[-2] for line in listed[1:]] == ["uploader", "second"]
    assert "is no uploader" in archive("archive", "uploader", "remove", "mine", "third", status=1).err
    assert "is more than one" in archive("archive", "uploader", "remove", "mine", "example.org", status=1).err
    assert "not upload" in archive("archive", "uploader", "remove", "mine", keys.fingerprint("second")[-16:]).out
    assert len(archive("archive", "uploader", "list", "mine", "--json").json["uploaders"]) == 1
    assert "no archive 'other'" in archive("archive", "uploader", "list", "other", status=1).err


def test_upload(archive: Cli, tmp_path: Path) -> None:
    """An upload is accepted, or refused with all that is wrong with it; both are listed."""
    assert "Nothing was uploaded" in archive("uploads").err
    changes = Upload().write(tmp_path / "good")
    said = archive("upload", changes, "--archive", "mine")
    assert said.out == "hello_1.0_source.changes is accepted by debian/mine: hello 1.0; builds: 1\n"
    assert "No master runs" in said.err
    bad = Upload(version="0.9", distribution="sid", signer="").write(tmp_path / "bad")
    told = archive("upload", bad, "--archive", "debian/mine", status=1).err
    assert told.startswith("buildmaster: hello_0.9_source.changes is refused by debian/mine:\n- ")
    assert len(archive("upload", bad, "--archive", "mine", "--json", status=1).json["faults"]) == 3
    listed = archive("uploads", "--archive", "mine", "--json").json["uploads"]
    assert [each["accepted"] for each in listed] == [False, True]  # The same refusal is written down once.
    assert (listed[1]["source"], listed[1]["faults"]) == ("hello 1.0", [])
    assert archive("uploads").out.splitlines()[-1].endswith("accepted: hello 1.0")
    assert "there is no archive debian/other" in archive("upload", bad, "--archive", "other", status=1).err


def test_without_a_signature(archive: Cli, tmp_path: Path) -> None:
    """The operator can vouch for what is not signed."""
    changes = Upload(signer="").write(tmp_path / "good")
    assert archive("upload", changes, "--archive", "mine", "--unsigned", "--json").json["builds"] == [1]
