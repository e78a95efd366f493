"""Keys of archives: what they sign, gpgv verifies."""

import subprocess
from pathlib import Path

import pytest

from buildmaster.publishing.signing import KeyRefused, Keys, NewKey, keyring, make_key

TEXT = b"Origin: mine\nLabel: with a space at its end \n- a dash\n\nFrom here on\n"


def gpgv(folder: Path, key: NewKey | list[NewKey], *files: Path) -> list[str]:
    """Verify with a keyring of these keys; returns the signing keys' fingerprints.

    :raises CalledProcessError: gpgv does not like it.
    """
    ring = folder / "keyring.gpg"
    keys = key if isinstance(key, list) else [key]
    dearmoured = subprocess.run(
        ["gpg", "--homedir", folder, "--dearmor"],
        input=keyring([each.certificate for each in keys]).encode(),
        capture_output=True,
        check=True,
    )
    ring.write_bytes(dearmoured.stdout)
    done = subprocess.run(
        ["gpgv", "--status-fd", "1", "--keyring", ring, *files],
        capture_output=True,
        check=True,
        text=True,
        errors="replace",
    )  # (What Sequoia salts signatures with is no text.)
    assert "warning" not in done.stderr.lower(), done.stderr
    valid = [line.split() for line in done.stdout.splitlines() if line.startswith("[GNUPG:] VALIDSIG ")]
    assert all(int(words[9]) == 10 for words in valid)  # SHA-512.
    return [words[-1] for words in valid]


def signed(folder: Path, *keys: NewKey) -> tuple[Path, Path, Path]:
    """InRelease, Release.gpg, Release."""
    done = Keys([key.secret for key in keys]).sign(TEXT)
    paths = folder / "InRelease", folder / "Release.gpg", folder / "Release"
    for path, content in zip(paths, (done.inline, done.detached, TEXT), strict=True):
        path.write_bytes(content)
    return paths


def test_one_key(tmp_path: Path) -> None:
    """gpgv verifies both signatures, and reads the text out of the one around it."""
    key = make_key("Archive mine of debian")
    inline, detached, text = signed(tmp_path, key)
    assert gpgv(tmp_path, key, inline) == [key.fingerprint]
    assert gpgv(tmp_path, key, detached, text) == [key.fingerprint]
    subprocess.run(["gpgv", "--keyring", tmp_path / "keyring.gpg", "-o", tmp_path / "out", inline], check=True)
    assert [line.rstrip() for line in (tmp_path / "out").read_bytes().splitlines()] == [
        line.rstrip() for line in TEXT.splitlines()
    ]


def test_two_keys(tmp_path: Path) -> None:
    """While one key takes over from another, who knows either one verifies both files."""
    old, new = make_key("old"), make_key("new")
    inline, detached, text = signed(tmp_path, old, new)
    assert Keys([old.secret, new.secret]).fingerprints == (old.fingerprint, new.fingerprint)
    for files in ((inline,), (detached, text)):
        assert gpgv(tmp_path, [old, new], *files) == [old.fingerprint, new.fingerprint]
        for key in (old, new):  # gpgv ends with 2 where it lacks a key; apt looks at its status lines instead.
            with pytest.raises(subprocess.CalledProcessError) as caught:
                gpgv(tmp_path, key, *files)
            assert f"VALIDSIG {key_of(caught.value.stdout)}" in caught.value.stdout
            assert key.fingerprint in caught.value.stdout and "BADSIG" not in caught.value.stdout


def key_of(status: str) -> str:
    (line,) = (line for line in status.splitlines() if "VALIDSIG" in line)
    return line.split()[2]


def test_what_was_changed(tmp_path: Path) -> None:
    """A changed text is not verified."""
    key = make_key("mine")
    inline, detached, text = signed(tmp_path, key)
    inline.write_bytes(inline.read_bytes().replace(b"mine", b"dine"))
    text.write_bytes(TEXT + b"more\n")
    for files in ((inline,), (detached, text)):
        with pytest.raises(subprocess.CalledProcessError):
            gpgv(tmp_path, key, *files)


def test_a_key_that_is_none() -> None:
    """A certificate, or what is no key, does not sign; and nobody signs without a key."""
    for secrets in ([make_key("mine").certificate], ["nothing"], []):
        with pytest.raises(KeyRefused):
            Keys(secrets)


def test_the_public_part_has_no_secret() -> None:
    """What is exported has no secret."""
    key = make_key("mine")
    assert "PRIVATE" in key.secret
    assert "PRIVATE" not in key.certificate and "PRIVATE" not in keyring([key.certificate])
