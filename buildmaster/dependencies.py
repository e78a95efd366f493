"""Can build-dependencies be installed from what the archives have? libsolv says so; here its question and its answer.

What the archives have comes from :mod:`buildmaster.available`. The relations come reduced as the builder reduces them
(:mod:`buildd.relations`), so that what is missing here is what would be missing there. Pure, but that libsolv reads
what it is given from a file.
"""

from collections.abc import Iterable, Iterator
from typing import IO, Any, Final

import solv

from buildd.relations import Alternatives, Relation, parse_relations, show_relations
from buildmaster.available import ANY, ESSENTIAL, Lack

# apt-get build-dep installs the first, and the builder asks for the second (buildd.apt.dependency_dsc).
ALWAYS: Final = parse_relations("build-essential, fakeroot")

_OPERATORS: Final = {
    "<<": solv.REL_LT,
    "<=": solv.REL_LT | solv.REL_EQ,
    "=": solv.REL_EQ,
    ">=": solv.REL_GT | solv.REL_EQ,
    ">>": solv.REL_GT,
}
_IN_DEBIAN: Final = {"<": "<<", ">": ">>"}  # What libsolv writes in another way.
_FACTS_MAX: Final = 6  # In one reason.


class Packages:
    """What the archives have, for one architecture. Bookworm's main takes 60 MB, and a third of a second to load."""

    def __init__(self, file: IO[bytes], architecture: str) -> None:
        """:param file: one that the system knows, at its beginning, with what `prepared` gave.

        :raises ValueError: libsolv cannot do this here: it was built without support for Debian.
        """
        self.architecture = architecture
        self._pool = solv.Pool()
        if self._pool.setdisttype(solv.Pool.DISTTYPE_DEB) < 0:
            raise ValueError("this libsolv knows nothing of Debian: install Debian's python3-solv")
        self._pool.setarch(architecture)
        opened = solv.xfopen_fd("Packages", file.fileno())
        if opened is None or not self._pool.add_repo("archives").add_debpackages(opened):
            raise ValueError(f"libsolv cannot read what there is for {architecture}")
        self._pool.addfileprovides()
        self._pool.createwhatprovides()
        essential = self._pool.whatprovides(self._pool.Dep(ESSENTIAL))
        here = solv.Job.SOLVER_INSTALL | solv.Job.SOLVER_SOLVABLE
        self._always = [self._pool.Job(here, package.id) for package in essential]

    def lack(self, wanted: Iterable[Alternatives], unwanted: Iterable[Alternatives]) -> Lack | None:
        """Why a source cannot have its build-dependencies; None: it can."""
        wanted, unwanted = (*ALWAYS, *wanted), tuple(unwanted)
        absent = tuple(dict.fromkeys(clause for clause in wanted if not any(map(self._providers, clause))))
        if absent:
            bare = [tuple(relation.without_qualifier() for relation in clause) for clause in absent]
            return Lack(_sentence(map(self._absence, absent)), show_relations(dict.fromkeys(bare)))
        solver = self._pool.Solver()
        solver.set_flag(solv.Solver.SOLVER_FLAG_IGNORE_RECOMMENDED, 1)
        problems = solver.solve([*self._always, *map(self._install, wanted), *self._forbid(unwanted)])
        return _explained(problems, show_relations(unwanted)) if problems else None

    def _install(self, clause: Alternatives) -> Any:
        """The job of installing one of the alternatives, of which at least one is there."""
        any_of, *more = filter(None, map(self._dependency, clause))
        for each in more:
            any_of = any_of.Rel(solv.REL_OR, each)
        return self._pool.Job(solv.Job.SOLVER_INSTALL | solv.Job.SOLVER_SOLVABLE_PROVIDES, any_of.id)

    def _forbid(self, unwanted: Iterable[Alternatives]) -> Iterator[Any]:
        for relation in (relation for clause in unwanted for relation in clause):
            if (found := self._dependency(relation)) is not None:
                yield self._pool.Job(solv.Job.SOLVER_ERASE | solv.Job.SOLVER_SOLVABLE_PROVIDES, found.id)

    def _dependency(self, relation: Relation) -> Any:
        """A relation, as libsolv has it; None when it is to a package of another architecture."""
        if relation.qualifier not in ("", "any", "native", "all", self.architecture):
            return None
        found = self._pool.Dep(relation.package + (ANY if relation.qualifier == "any" else ""))
        if relation.operator:
            found = found.Rel(_OPERATORS[relation.operator], self._pool.Dep(relation.version))
        return found

    def _providers(self, relation: Relation) -> list[Any]:
        found = self._dependency(relation)
        return [] if found is None else self._pool.whatprovides(found)

    def _absence(self, clause: Alternatives) -> str:
        """What is said of a clause that nothing satisfies."""
        packages = dict.fromkeys(relation.package for relation in clause)
        versions = [f"{each.name} {each.evr}" for name in packages for each in self._providers(Relation(name))]
        instead = f"have {' and '.join(dict.fromkeys(versions))}" if versions else "do not have it"
        return f"it needs {show_relations([clause])}, and its archives {instead}"


def _explained(problems: Iterable[Any], unwanted: str) -> Lack:
    """The facts that keep packages from being installed, as libsolv has found them.

    :param unwanted: the build-conflicts, of which libsolv does not say which it was.
    """
    facts: dict[str, None] = {}
    missing: dict[str, None] = {}
    for problem in problems:
        infos = [info for rule in problem.findallproblemrules() for info in rule.allinfos()]
        for info in sorted(infos, key=lambda info: info.type != solv.Solver.SOLVER_RULE_PKG_REQUIRES):
            if info.type == solv.Solver.SOLVER_RULE_PKG_NOTHING_PROVIDES_DEP:
                missing[_shown(info.dep)] = None
            if fact := _fact(info):
                facts[fact] = None
    if not missing and unwanted:
        facts[f"it must be built without {unwanted}"] = None
    return Lack(_sentence(facts) or "what it needs cannot be installed all at once", ", ".join(missing))


def _fact(info: Any) -> str:
    """What one of libsolv's rules says; "" when that explains nothing."""
    solver = solv.Solver
    package, other = _named(info.solvable), _named(info.othersolvable)
    match info.type:
        case solver.SOLVER_RULE_PKG_REQUIRES:
            return f"{package} needs {_shown(info.dep)}"
        case solver.SOLVER_RULE_PKG_NOTHING_PROVIDES_DEP:
            return f"{package} needs {_shown(info.dep)}, and its archives do not have it"
        case solver.SOLVER_RULE_PKG_CONFLICTS:
            return f"{package} conflicts with {other}"
        case solver.SOLVER_RULE_PKG_SAME_NAME:
            return f"{package} and {other} have one name"
        case solver.SOLVER_RULE_PKG_NOT_INSTALLABLE:
            return f"{package} cannot be installed here"
    return ""


def _named(package: Any) -> str:
    return f"{package.name} {package.evr}" if package is not None else ""


def _shown(dependency: Any) -> str:
    """A dependency of libsolv's, `foo%any >= 1 | bar`, as a relationship field has it."""
    clause = []
    for one in str(dependency).replace(ANY, ":any").split(" | "):
        name, *version = one.split()
        operator = _IN_DEBIAN.get(version[0], version[0]) if version else ""
        clause.append(f"{name} ({operator} {version[1]})" if len(version) == 2 else one)
    return " | ".join(clause)


def _sentence(facts: Iterable[str]) -> str:
    said = list(facts)
    more = [f"and {len(said) - _FACTS_MAX} more"] if len(said) > _FACTS_MAX else []
    return "; ".join([*said[:_FACTS_MAX], *more])
