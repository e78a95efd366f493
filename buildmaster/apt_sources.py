"""Where apt takes packages from: suites that we publish, and lines for archives elsewhere. Pure."""

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import quote, urlsplit, urlunsplit

from debian.deb822 import Deb822

_LOGIN = re.compile(r"(?<=://)[^\s/@]+@")
_OPTIONS = {  # Of a one-line entry, by the field that says the same; sources.list(5).
    "Architectures": "arch",
    "Trusted": "trusted",
    "Signed-By": "signed-by",
    "Check-Valid-Until": "check-valid-until",
    "Allow-Insecure": "allow-insecure",
    "By-Hash": "by-hash",
}


@dataclass(frozen=True)
class Login:
    """What a private archive is read with."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.user!r})"  # Whoever prints one tells nothing.


def keyring_of(archive: str) -> str:
    """Where people keep the key of an archive that we publish.

    :param archive: DISTRIBUTION/NAME.
    """
    return f"/etc/apt/keyrings/{archive.replace('/', '-')}.asc"


@dataclass(frozen=True)
class Suite:
    """A suite of an archive that we publish."""

    archive: str  # DISTRIBUTION/NAME.
    name: str
    components: tuple[str, ...]
    private: bool = False
    snapshot: str = ""  # The name of one, if it is to be as it was then.

    @property
    def keyring(self) -> str:
        """Where people keep its key."""
        return keyring_of(self.archive)

    def line(self, url: str, login: Login | None = None, keyring: str = "") -> str:
        """For sources.list.

        :param url: where our archives are, without a slash at the end.
        :param login: what private ones are read with, which stands in the line then.
        :param keyring: where its key is; "": among those that apt trusts for all archives.
        """
        signed = [f"signed-by={keyring}"] if keyring else []
        dated = ["check-valid-until=no"] if self.snapshot else []
        options = f"[{' '.join(signed + dated)}] " if signed or dated else ""
        where = f"{self.archive}/snapshot/{self.snapshot}" if self.snapshot else self.archive
        if self.private and login is not None:
            parts = urlsplit(url)
            host = f"{quote(login.user, safe='')}:{quote(login.password, safe='')}@{parts.netloc}"
            url = urlunsplit(parts._replace(netloc=host))
        return f"deb {options}{url}/{where} {self.name} {' '.join(self.components)}"


@dataclass(frozen=True)
class Sources:
    """All that a build takes packages from."""

    suites: tuple[Suite, ...] = ()
    lines: tuple[str, ...] = ()  # For archives elsewhere; none: the chroot's own.
    keys: tuple[str, ...] = ()  # OpenPGP public keys that are trusted beside the chroot's; each as base64.

    def complete(self, chroot: "Sources") -> "Sources":
        """The same, where the chroot's own lines have to be said: who is given a line is given all of them.

        :param chroot: what its own are; without lines when that is not known. Nothing is said then: to build on Debian
            alone is better than to build on us alone.
        """
        if self.lines or not self.suites:
            return self
        if not chroot.lines:
            return Sources(keys=self.keys)
        return Sources(self.suites, chroot.lines, (*self.keys, *chroot.keys))

    def as_in(self, snapshots: Mapping[str, str]) -> "Sources":
        """The same, with some of our archives as they are in snapshots, whose names these are by DISTRIBUTION/NAME."""
        suites = tuple(replace(each, snapshot=snapshots.get(each.archive, "")) for each in self.suites)
        return replace(self, suites=suites)

    def at(self, url: str, login: Login | None = None) -> tuple[str, ...]:
        """The lines, ours first; see Suite.line()."""
        return (*(suite.line(url, login) for suite in self.suites), *self.lines)


def chroot_sources(files: Mapping[str, bytes]) -> Sources:
    """What a chroot's own files say, as lines.

    :param files: those below etc/apt/, by their paths below the root.
    """
    lines: list[str] = []
    keys: list[str] = []
    for path in sorted(files, key=lambda path: (path != "etc/apt/sources.list", path)):
        if not path.startswith("etc/apt/sources.list"):
            continue
        text = files[path].decode(errors="replace")
        if path.endswith(".sources"):
            for paragraph in Deb822.iter_paragraphs(text, use_apt_pkg=False):
                lines += _lines_of(paragraph, keys)
        elif path.endswith(".list"):
            stripped = (line.partition("#")[0].strip() for line in text.splitlines())
            lines += [line for line in stripped if line.startswith("deb") and line.isprintable()]
    return Sources(lines=tuple(lines), keys=tuple(keys))


def _lines_of(paragraph: Mapping[str, str], keys: list[str]) -> Iterator[str]:
    """A paragraph of deb822 sources as one-line entries. A key that stands in it is added to the keys."""
    fields = {name: " ".join(value.split()) for name, value in paragraph.items()}
    if fields.get("Enabled", "yes").lower() in ("no", "false", "0", "off"):
        return
    if "BEGIN PGP" in paragraph.get("Signed-By", ""):
        lines = (line.strip() for line in paragraph["Signed-By"].strip().splitlines())
        key = "\n".join("" if line == "." else line for line in lines) + "\n"
        keys.append(base64.b64encode(key.encode()).decode())
        del fields["Signed-By"]
    said = [f"{option}={','.join(fields[name].split())}" for name, option in _OPTIONS.items() if fields.get(name)]
    options = f"[{' '.join(said)}] " if said else ""
    for kind in fields.get("Types", "").split():
        for url in fields.get("URIs", "").split():
            for suite in fields.get("Suites", "").split():
                yield f"{kind} {options}{url} {suite} {fields.get('Components', '')}".strip()


def without_login(text: str) -> str:
    """A text without the user:password@ of its URLs."""
    return _LOGIN.sub("", text)


def joined(several: Iterable[Sources]) -> Sources:
    """All of several, each thing once."""
    found = list(several)
    return Sources(
        tuple(dict.fromkeys(suite for each in found for suite in each.suites)),
        tuple(dict.fromkeys(line for each in found for line in each.lines)),
        tuple(dict.fromkeys(key for each in found for key in each.keys)),
    )
