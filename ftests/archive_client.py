"""A machine of somebody who uploads to archives of a farm, and takes packages from them."""

import re
from dataclasses import dataclass
from typing import Any

from ftests.booted import BootedSystem
from harness import FarmTestSetup

COMPLAINTS = re.compile(
    r"^(W|E|N|Warning|Error):|\b(warning|error|unable|fail(ed|ure)?)\b", re.IGNORECASE | re.MULTILINE
)


@dataclass
class Shown:
    """What `archive show` says of an archive."""

    text: str
    document: dict[str, Any]

    @property
    def url(self) -> str:
        """Of the archive."""
        return str(self.document["url"])

    def paragraph(self, first: str) -> str:
        """The part of the text that begins so, up to an empty line."""
        return self.text[self.text.index(first) :].partition("\n\n")[0] + "\n"

    @property
    def keyring(self) -> str:
        """Where its key is to be."""
        return self.paragraph("Signed-By:").split()[1]

    @property
    def line(self) -> str:
        """For sources.list."""
        return next(line for line in self.text.splitlines() if line.startswith("deb ["))


def show(farm: FarmTestSetup, archive: str) -> Shown:
    """What `archive show` says."""
    return Shown(farm.master.run("archive", "show", archive), farm.master.ask("archive", "show", archive))


@dataclass
class Client:
    """The machine."""

    system: BootedSystem
    suite: str

    def quietly(self, *argv: str) -> str:
        """Run a program that has nothing to complain of."""
        said = self.system.run(argv)
        assert not COMPLAINTS.search(said), said
        return said

    def shell(self, script: str) -> str:
        """Run commands, none of which fails or complains."""
        return self.quietly("sh", "-euc", script)

    def write(self, path: str, text: str) -> None:
        """Write a file in the system."""
        (self.system.root / path).write_text(text)

    def use(self, shown: Shown) -> None:
        """Have apt use an archive, by what `archive show` says."""
        self.system.run(["sh", "-ec", shown.paragraph("wget ")])
        sources = re.search(r"/etc/apt/(sources\.list\.d/\S+\.sources)", shown.text)
        assert sources is not None
        self.write(f"etc/apt/{sources[1]}", shown.paragraph("Types:"))
