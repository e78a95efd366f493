"""What archives have for builds, as text: from apt's words to those of libsolv. Pure.

It is what apt would choose from: one version of each package, as `apt-cache dumpavail` lists them, with FIELDS and no
more: with Recommends and descriptions libsolv takes 15 ms for an answer instead of 0.5.
"""

import re
from dataclasses import dataclass
from typing import Final

FIELDS: Final = (
    *("Package", "Version", "Architecture", "Multi-Arch", "Essential", "Status"),
    *("Provides", "Depends", "Pre-Depends", "Conflicts", "Breaks"),
)
# Names that no package can have, by which libsolv is told what it does not know of Debian: `python3:any` is satisfied
# by what is Multi-Arch: allowed and by nothing else (tried with apt), and essential packages are there unasked.
ANY: Final = "%any"
ESSENTIAL: Final = "%essential"
_END_OF_NAME: Final = rb"(?=[ ,|(\n])"


@dataclass(frozen=True)
class Lack:
    """Why build-dependencies cannot be installed."""

    reason: str  # In words.
    missing: str  # What nothing satisfies, as a relationship field; "": all is there, but not all of it at once.


def with_installed(available: bytes, status: bytes) -> bytes:
    """What apt has, and what is installed in a chroot and no archive has (dpkg's status)."""
    names = frozenset(re.findall(rb"^Package: (.*)$", available, re.MULTILINE))
    added = [
        stanza
        for stanza in status.split(b"\n\n")
        if (name := re.search(rb"^Package: (.*)$", stanza, re.MULTILINE)) is not None
        and name[1] not in names
        and re.search(rb"^Status: \S+ \S+ installed$", stanza, re.MULTILINE)
    ]
    return b"\n\n".join([available.rstrip(b"\n"), *added, b""])


def prepared(stanzas: bytes, architecture: str) -> bytes:
    """The stanzas as Packages takes them, which are in words that libsolv knows."""
    text = re.sub(rb":any" + _END_OF_NAME, ANY.encode(), stanzas)
    text = re.sub(rb":" + re.escape(architecture.encode()) + _END_OF_NAME, b"", text)
    return b"\n\n".join(map(_telling_more, text.split(b"\n\n")))


def _telling_more(stanza: bytes) -> bytes:
    """A stanza that says as provided what it says by Multi-Arch and Essential."""
    if b"\nMulti-Arch: allowed" not in stanza and b"\nEssential: yes" not in stanza:
        return stanza
    fields = {name: value for name, _, value in (line.partition(b": ") for line in stanza.split(b"\n"))}
    more = []
    if fields.get(b"Multi-Arch") == b"allowed":
        itself = b"%s (= %s)" % (fields.get(b"Package", b""), fields.get(b"Version", b""))
        provided = filter(None, map(bytes.strip, fields.get(b"Provides", b"").split(b",")))
        more = [re.sub(rb"^[^\s(]+", rb"\g<0>" + ANY.encode(), each) for each in (itself, *provided)]
    if fields.get(b"Essential") == b"yes":
        more.append(ESSENTIAL.encode())
    return b"%s\nProvides: %s" % (stanza.rstrip(b"\n"), b", ".join(more))
