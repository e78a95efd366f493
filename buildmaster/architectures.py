"""Which builds a source package needs. Pure, but for dpkg's architecture tables, which python-debian reads once."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from debian.debian_support import DpkgArchTable


@dataclass(frozen=True)
class NeededBuild:
    """A build that a source package needs."""

    architecture: str
    arch_indep: bool  # Builds the arch:all packages as well.


def needed_builds(
    wanted: Iterable[str], available: Sequence[str], nominated: str | None, build_indep: str = ""
) -> list[NeededBuild]:
    """The builds for a source package, one an architecture at most; arch:all packages are built once.

    :param wanted: the words of the .dsc's Architecture field (Debian Policy 5.6.8): any, all, amd64, linux-any ...
    :param available: the series' architectures.
    :param nominated: the one that builds arch:all packages, unless
    :param build_indep: the .dsc's Build-Indep-Architecture names or matches another that is available.
    :returns: in the order of `available`; none when nothing here can build it.
    """
    words = list(wanted)
    binary = [name for name in available if any(matches(name, word) for word in words if word != "all")]
    indep = _indep_architecture(available, nominated, build_indep, binary) if "all" in words else None
    return [NeededBuild(name, name == indep) for name in available if name in binary or name == indep]


def wanted(architectures: Iterable[str], package_list: str, profiles: Collection[str] = ()) -> list[str]:
    """The words that say for which architectures a source is to be built in some profiles, for needed_builds().

    :param architectures: the words of the .dsc's Architecture field, which are those of all its packages.
    :param package_list: its Package-List, which has more to say (dsc(5)): packages that are not for these profiles want
        no build. "", or one of before dpkg 1.17.7: the field counts alone.
    """
    found: dict[str, None] = {}
    for line in filter(None, map(str.split, package_list.splitlines())):
        said = dict(word.split("=", 1) for word in line[4:] if "=" in word)
        if "arch" not in said:
            return list(architectures)
        if _applies(said.get("profile", ""), profiles):
            found |= dict.fromkeys(said["arch"].split(","))
    return list(found) if package_list.strip() else list(architectures)


def _applies(formula: str, profiles: Collection[str]) -> bool:
    """Whether a package is built in some profiles: Build-Profiles, with + for what is together and , for what is or."""
    if not formula:
        return True
    together = (each.split("+") for each in formula.split(","))
    return any(all((word.removeprefix("!") in profiles) != word.startswith("!") for word in each) for each in together)


def _indep_architecture(
    available: Sequence[str], nominated: str | None, build_indep: str, binary: Sequence[str]
) -> str | None:
    choices = [name for name in available if matches(name, build_indep)] if build_indep else list(available)
    for preferred in (nominated, *binary):
        if preferred in choices:
            return preferred
    return choices[0] if choices else None


def matches(architecture: str, wildcard: str) -> bool:
    """Whether an architecture is meant by a word like `any`, `linux-any` or `amd64` (Debian Policy 11.1.1)."""
    return architecture == wildcard or bool(_table().matches_architecture(architecture, wildcard))


@cache
def _table() -> DpkgArchTable:
    return DpkgArchTable.load_arch_table()
