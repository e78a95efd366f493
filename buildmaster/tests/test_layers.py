"""Who may import whom: edges -> work -> state -> core, and never the other way; buildd knows nothing of buildmaster."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import buildd
import buildmaster

LAYERS = {
    "core": {
        "provenance", "envelopes", "repeating",
        "ahead", "sharing", "lifecycle", "blame", "scoring", "architectures", "pacing", "tags", "pockets",
        "dependencies", "leasing", "wishes", "letters", "reasons", "forecast",
        "available", "domination",
        "apt_sources", "conditions", "peers",
        "indices",
    },
    "state": {
        "attesting", "attested", "reproductions",
        "tables", "migrations", "database", "engines", "commits", "files", "builds", "entries", "shares", "queue",
        "builders", "orders", "packages", "superseding", "archives", "giving", "notifications", "needs",
        "distributions", "chroots", "distro_series", "farm", "store", "listings", "secrets", "masters",
        "clocks", "rows", "uploaders", "uploads",
        "waiting", "supplies", "forecasting",
        "inventory",
        "dump", "backup", "backup_manifest", "backup_folders", "backup_tars", "backup_places", "keepsakes",
        "depwaits",
        "offered", "credentials", "rebuilding",
        "binaries", "publications", "entering", "repositories", "goods", "suites", "leaving", "retention", "snapshots",
        "copying", "holding",
    },
    "work": {
        "diffoscope", "collecting",
        "ports", "builder_http", "builder_client", "fetching", "snapshot", "dispatch", "results", "gathering",
        "recovery", "external", "resetting", "running_log", "scanner", "fleet", "workshop", "file_server", "master",
        "builder_answers", "acts", "at_once", "sending_ahead", "leases", "notifying",
        "sending", "archive_tree", "archive_server",
        "programs", "chroot_system", "package_lists", "looking", "turns", "examiner",
        "debs", "deb_reader",
        "publishing", "uploading",
    },
    "edges": {"config", "service", "cli"},
}  # fmt: skip
ORDER = list(LAYERS)
# All that a master may know of a daemon.
PUBLIC = {"buildd.protocol", "buildd.control", "buildd.relations", "buildd.settings", "buildd.systemd"}
NOT_IN_CORE = {"twisted", "sqlalchemy", "time", "os", "pathlib", "socket", "random", "datetime"}

MASTER = Path(buildmaster.__file__).parent
DAEMON = Path(buildd.__file__).parent


def modules(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*.py") if "tests" not in path.parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a module imports, at its top or inside a function, and what `from x import y` may mean."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    """The name of the module or package directly below buildmaster that a file is in."""
    return path.relative_to(MASTER).parts[0].removesuffix(".py")


def layer_of(part: str) -> int:
    (layer,) = (number for number, name in enumerate(ORDER) if part in LAYERS[name])
    return layer


def own(name: str) -> str | None:
    """The part of buildmaster that an import is of."""
    words = name.split(".")
    return words[1] if words[0] == "buildmaster" and len(words) > 1 else None


ALL = [pytest.param(path, id=str(path.relative_to(MASTER))) for path in modules(MASTER) if part_of(path) != "__init__"]


def test_every_module_has_a_layer() -> None:
    """Whoever adds a module says here where it belongs."""
    parts = {part_of(path) for path in modules(MASTER)} - {"__init__"}
    assert parts == set().union(*LAYERS.values())


@pytest.mark.parametrize("path", ALL)
def test_nothing_is_imported_from_above(path: Path) -> None:
    """A module imports its own layer and those below it."""
    known = set().union(*LAYERS.values())
    mine = layer_of(part_of(path))
    above = {name for name in imports(path) if (part := own(name)) in known and layer_of(str(part)) > mine}
    assert not above


@pytest.mark.parametrize("path", ALL)
def test_little_of_the_daemon(path: Path) -> None:
    """The master imports the public modules of buildd and nothing else of it."""
    found = {".".join(name.split(".")[:2]) for name in imports(path) if name.startswith("buildd.")}
    assert found <= PUBLIC
    assert "buildd" not in imports(path)


@pytest.mark.parametrize("path", [each for each in ALL if part_of(each.values[0]) in LAYERS["core"]])  # type: ignore
def test_the_core_is_pure(path: Path) -> None:
    """The core knows no clock, file, network, database or reactor."""
    assert not {name.split(".")[0] for name in imports(path)} & NOT_IN_CORE


@pytest.mark.parametrize("path", [each for each in ALL if part_of(each.values[0]) in {"cli"}])  # type: ignore
def test_the_commands_touch_no_table(path: Path) -> None:
    """The command line asks listings and the verbs of the state; it never touches the tables."""
    assert not {name for name in imports(path) if name.startswith("buildmaster.tables")}


@pytest.mark.parametrize("path", [each for each in ALL if part_of(each.values[0]) == "store"])  # type: ignore
def test_the_store_stands_alone(path: Path) -> None:
    """The store imports nothing of ours but itself and the protocol."""
    ours = {name for name in imports(path) if name.startswith(("buildmaster", "buildd."))}
    assert all(name.startswith(("buildmaster.store", "buildd.protocol")) for name in ours)


SCANS = {"scanner", "dispatch", "gathering"}


@pytest.mark.parametrize("path", [each for each in ALL if part_of(each.values[0]) in SCANS])  # type: ignore
def test_scans_write_by_their_lease_only(path: Path) -> None:
    """What a scan writes goes through the tenure, which refuses it when another master has the builder by then."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and node.attr in ("transact", "transaction"):
            assert isinstance(node.value, ast.Attribute) and node.value.attr in ("tenure", "_tenure"), node.lineno


ONCE = {"database", "farm", "leases"}


@pytest.mark.parametrize("path", [each for each in modules(MASTER) if part_of(each) not in ONCE], ids=str)
def test_what_is_in_the_way_is_tried_again(path: Path) -> None:
    """Nobody writes but by transact() and write(), which begin anew when that helps. (Leases have turns.)"""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not isinstance(node, ast.Attribute) or node.attr != "transaction", node.lineno


@pytest.mark.parametrize("path", ALL)
def test_one_place_knows_the_global_reactor(path: Path) -> None:
    """The global reactor is imported by service.py only."""
    if part_of(path) != "service":
        assert "twisted.internet.reactor" not in set(imports(path))


@pytest.mark.parametrize("path", modules(DAEMON), ids=str)
def test_the_daemon_knows_no_master(path: Path) -> None:
    """Nothing in buildd imports buildmaster."""
    assert not {name for name in imports(path) if name.split(".")[0] == "buildmaster"}


def test_what_is_public_stands_alone() -> None:
    """What is public of buildd can be used without the rest, and but for what is for services without Twisted."""
    for module in PUBLIC:
        name = module.removeprefix("buildd.") + ".py"
        needed = {each for each in imports(DAEMON / name) if each.startswith(("buildd.", "twisted"))}
        allowed = PUBLIC | ({"twisted.internet"} if module == "buildd.systemd" else set())
        assert all(".".join(each.split(".")[:2]) in allowed for each in needed)


def test_settings_need_the_standard_library_only() -> None:
    """buildd/settings.py needs neither the rest nor a library."""
    needed = {name.split(".")[0] for name in imports(DAEMON / "settings.py")}
    assert needed <= sys.stdlib_module_names
