"""Two builders with one cache: what one has made the other uses, and nobody is in anybody's way (sharing.py)."""

import json
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ftests.tiny_source import tiny_source
from ftests.trial import Trial, trial
from harness import base_chroot
from tools.account import build_account

pytestmark = pytest.mark.real

# Each needs what another does not, or the same as one of the other builder. The first leaves what is hard to remove.
_DEEP = """perl -e 'for (1..40) {mkdir "d" x 200; chdir "d" x 200}; open F, ">", "a\\nb"; mkdir "e" x 255'"""
SOURCES = {
    "needs-nothing": ("", _DEEP),
    "needs-bc": ("bc", "test `echo '6*7' | bc` = 42"),
    "needs-dc": ("dc", "test `dc -e '6 7 * p'` = 42"),
    "needs-both": ("bc, dc", "bc --version && dc --version"),
}


@dataclass
class Builders:
    """Two builders, as processes of the unprivileged account."""

    trial: Trial
    layers: Path  # What they share.
    log: str = ""
    results: list[dict[str, Any]] = field(default_factory=list)

    def start(self, name: str, sources: list[Path]) -> "subprocess.Popen[str]":
        directory = self.trial.make_directory(name)
        return self.trial.start([self.trial.program("sharing.py"), directory, self.layers, base_chroot(), *sources])

    def cache(self, *argv: str) -> str:
        """What `debfarm-buildd cache` says."""
        main = "import sys; from buildd.commands import main; sys.exit(main())"
        environment = {"DEBFARM_BUILDD_LAYERS": str(self.layers)}
        return self.trial.run(["-c", main, "--dir", self.trial.folder / "one", "cache", *argv], environment=environment)


@pytest.fixture(scope="module")
def builders() -> Iterator[Builders]:
    """After a third has died in the midst of unpacking, two have built the same packages, all at once."""
    with trial("sharing", build_account()) as place:
        found, folder = Builders(place, place.make_directory("layers")), place.folder / "sources"
        sources = [tiny_source(folder, name, needs=needs, build=build) for name, (needs, build) in SOURCES.items()]
        _die_in_the_midst(found.start("dead", sources[:1]), found.layers)
        running = [found.start(name, sources) for name in ("one", "two")]
        for builder in running:
            said, log = builder.communicate(timeout=300)
            assert builder.returncode == 0, log
            found.results.append(json.loads(said))
            found.log += log
        yield found


def _die_in_the_midst(builder: "subprocess.Popen[str]", layers: Path) -> None:
    while not list(layers.glob("making-*/tree/*")):
        assert builder.poll() is None, builder.communicate()
        time.sleep(0.01)
    builder.send_signal(signal.SIGKILL)
    builder.communicate()


def test_all_results_are_right(builders: Builders) -> None:
    """Each package was built with what it needs, by both."""
    for results in builders.results:
        for dsc, result in results.items():
            assert result["status"] == "BuildStatus.OK", result["log"]
            kinds = [
                file.removeprefix(dsc.removesuffix("dsc").rstrip(".")).rpartition(".")[2] for file in result["files"]
            ]
            assert kinds == ["buildinfo", "changes", "deb"]
        assert len(results) == len(SOURCES)


def test_each_layer_is_made_once(builders: Builders) -> None:
    """By whichever of them comes first; the others wait for it."""
    made = Counter(re.findall(r"layer ([0-9a-f]{64})-\d+: kept: ([a-z]+)", builders.log))
    assert made
    assert set(made.values()) == {1}, made
    kinds = Counter(kind for _, kind in made)
    assert kinds["base"] == 1
    assert kinds["updated"] == 1
    assert 3 <= kinds["installed"] <= len(SOURCES)


def test_nothing_is_left(builders: Builders) -> None:
    """Of builds, of what was being made, of locks; not even of the one that died."""
    for name in ("one", "two"):
        assert list((builders.trial.folder / name / "builds").iterdir()) == []
        assert list((builders.trial.folder / name / "scratch").iterdir()) == []
    assert [path for path in builders.layers.iterdir() if re.match("making|removing", path.name)] == []
    assert str(builders.trial.folder) not in Path("/proc/self/mountinfo").read_text()


def test_layers_and_builds_are_spread_over_the_disk(builders: Builders) -> None:
    """Where the file system can be told to: what was removed slows nothing down that is made."""
    for directory in (builders.layers, builders.trial.folder / "one" / "builds"):
        shown = subprocess.run(["lsattr", "-d", directory], capture_output=True, text=True, check=False)
        if shown.returncode:
            pytest.skip(f"this file system cannot: {shown.stderr}")
        assert "T" in shown.stdout.split()[0]


def test_the_layers_are_shown_and_verified(builders: Builders) -> None:
    """By the command, whichever builder's configuration it has."""
    listed = json.loads(builders.cache("list", "--json"))
    assert {layer["note"]["kind"] for layer in listed} == {"base", "updated", "installed"}
    assert not any(layer["in_use"] for layer in listed)
    assert "CHANGED" not in builders.cache("verify")
    base = next(layer for layer in listed if layer["note"]["kind"] == "base")
    assert base["inodes"] is None or base["inodes"] > 5000
    small = next(layer for layer in listed if layer["note"]["kind"] == "installed")
    assert "dropped" in builders.cache("drop", small["key"][:16])
    assert len(json.loads(builders.cache("list", "--json"))) == len(listed) - 1
