"""Secrets in files: what is used, and what is refused."""

import os
from pathlib import Path

import pytest

from buildmaster.secrets import SecretRefused, Secrets


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A good secret, "one"."""
    path = tmp_path / "one"
    path.write_text("s3cret words\n")
    path.chmod(0o600)
    return path


def refusal(secret: Path) -> str:
    with pytest.raises(SecretRefused) as told:
        Secrets(secret.parent).read(secret.name)
    assert told.value.path == secret and str(secret) in str(told.value)
    return str(told.value)


def test_a_secret(secret: Path) -> None:
    """A secret is the one line of its file; files that only its owner may read are good."""
    assert Secrets(secret.parent).read("one") == "s3cret words"
    secret.chmod(0o400)
    assert Secrets(secret.parent).read("one") == "s3cret words"


def test_missing(tmp_path: Path) -> None:
    """A secret that is not there is told by the path where it should be; so is a directory that is not there."""
    assert "is not there" in refusal(tmp_path / "one")
    assert "is not there" in refusal(tmp_path / "nowhere" / "one")


@pytest.mark.parametrize("content", ["", "\n", "  \n"])
def test_empty(secret: Path, content: str) -> None:
    """An empty secret protects nothing."""
    secret.write_text(content)
    assert "is empty" in refusal(secret)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o602, 0o610, 0o677])
def test_others_may_read_it(secret: Path, mode: int) -> None:
    """What others may read or change is no secret; neither the group nor everybody. The secret itself is not told."""
    secret.chmod(mode)
    told = refusal(secret)
    assert f"{mode:04o}" in told and "chmod 0600" in told and "s3cret" not in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_whose_it_is(secret: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret is its reader's or root's; root's may be readable for the reader's group."""
    monkeypatch.setattr(os, "geteuid", lambda: 1234)
    secret.chmod(0o640)
    assert Secrets(secret.parent).read("one") == "s3cret words"
    secret.chmod(0o660)
    assert "others may" in refusal(secret)
    os.chown(secret, 4321, 0)
    secret.chmod(0o600)
    assert "belongs to user 4321" in refusal(secret)
    os.chown(secret, 1234, 0)
    secret.chmod(0o640)
    assert "others may" in refusal(secret)


def test_no_file(secret: Path) -> None:
    """A directory or a fifo is no secret, and nobody waits for one."""
    secret.unlink()
    os.mkfifo(secret, 0o600)
    assert "not a regular file" in refusal(secret)
    secret.unlink()
    secret.mkdir(0o700)
    assert "Is a directory" in refusal(secret)


@pytest.mark.parametrize("content", [b"two\nlines\n", b" x\n", b"x \n", b"a\x00b", b"\xff\xfe", b"x" * 70000])
def test_not_one_line(secret: Path, content: bytes) -> None:
    """What is not one line of text was not meant as a secret."""
    secret.write_bytes(content)
    refusal(secret)


@pytest.mark.parametrize("name", ["", "../one", "a/b", ".hidden", "ONE", "x" * 65])
def test_names(secret: Path, name: str) -> None:
    """What is no name of a secret never becomes a path."""
    with pytest.raises(ValueError, match="name of a secret"):
        Secrets(secret.parent).read(name)


def test_kept(tmp_path: Path) -> None:
    """A secret is written for its owner only; one that is there stays, and is what counts."""
    secrets = Secrets(tmp_path / "secrets")
    assert secrets.keep("one", "first") == secrets.read("one") == "first"
    assert (tmp_path / "secrets" / "one").stat().st_mode & 0o777 == 0o600
    assert secrets.keep("one", "second") == "first"
    assert [each.name for each in (tmp_path / "secrets").iterdir()] == ["one"]
