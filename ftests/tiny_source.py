"""Source packages of a few lines, which build in a second or two: made here, since a story needs no more."""

import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

_CONTROL = """\
Source: {name}
Section: misc
Priority: optional
Maintainer: Debfarm Tests <tests@debfarm.invalid>
Standards-Version: 4.6.2
Rules-Requires-Root: no
{build_depends}
Package: {name}
Architecture: any
Description: package to test a build farm with
 It holds one file.
"""

_CHANGELOG = """\
{name} ({version}) unstable; urgency=medium

  * Made for a test.

 -- Debfarm Tests <tests@debfarm.invalid>  Sat, 01 Jun 2024 12:00:00 +0000
"""

# No debhelper, so that no build-dependency has to be installed.
_RULES = """\
#!/usr/bin/make -f
build build-arch build-indep:
\t{build}
binary binary-arch: build-arch
\trm -rf debian/tree
\tinstall -d debian/tree/DEBIAN debian/tree/usr/share/{name}
\techo "made by a test" > debian/tree/usr/share/{name}/file
\t{install}
\tdpkg-gencontrol -p{name} -Pdebian/tree
\tdpkg-deb --root-owner-group --build debian/tree ..
binary-indep:
clean:
\trm -rf debian/tree debian/files
.PHONY: build build-arch build-indep binary binary-arch binary-indep clean
"""


def tiny_source(
    folder: Path,
    name: str = "tiny",
    version: str = "1.0",
    build: str = "true",
    needs: str = "",
    *,
    install: str = "true",
    files: Mapping[str, bytes] = {},
) -> Path:
    """Make a native source package; return its .dsc, which has the tar archive that it names beside it.

    :param build: the shell command that its build target runs.
    :param needs: its Build-Depends.
    :param install: the shell command that adds to what is packed, in debian/tree.
    :param files: more of the source, by path.
    """
    facts = {"name": name, "version": version, "build": build, "install": install}
    with tempfile.TemporaryDirectory() as scratch:
        debian = Path(scratch) / name / "debian"
        (debian / "source").mkdir(parents=True)
        (debian / "source/format").write_text("3.0 (native)\n")
        (debian / "changelog").write_text(_CHANGELOG.format(**facts))
        relations = f"Build-Depends: {needs}\n" if needs else ""
        (debian / "control").write_text(_CONTROL.format(**facts, build_depends=relations))
        (debian / "rules").write_text(_RULES.format(**facts))
        (debian / "rules").chmod(0o755)
        for path, content in files.items():
            (debian.parent / path).write_bytes(content)
        subprocess.run(["dpkg-source", "--build", name], cwd=scratch, check=True, capture_output=True)
        folder.mkdir(parents=True, exist_ok=True)
        for file in Path(scratch).glob(f"{name}_{version}*"):
            (folder / file.name).write_bytes(file.read_bytes())
    return folder / f"{name}_{version}.dsc"
