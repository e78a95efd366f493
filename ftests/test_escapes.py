"""What a hostile package cannot do. Each attack is shown to work outside first, by the very program that then fails.

probe.c is the program. It runs as an ordinary user and as root of this machine; then in real builds on a real daemon:
as `install`, the maintainer script of a build-dependency, root of the namespaces while apt may use the network; as
`root`, which such a build-dependency can be while the package builds; and as `user`, which debian/rules is. It is all
one daemon, one archive, and many builds of a second or two.
"""

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ftests.hostile import PROBE, SECRET, HostileArchive, hostile_source, probe_source
from ftests.own_network import in_own_network
from ftests.stock_client import StockClient
from ftests.tiny_source import tiny_source
from ftests.victims import Victims, add_key, make_victims
from harness import BuilddTestSetup, FileServer, base_chroot

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can show that most of the attacks work, and make networks"),
]

BUILDERS = ("sbuild", "direct")
CONTEXTS = ("install", "root", "user")
ATTACKS = re.findall(r'^ {4}\{"([a-z0-9-]+)", \w+\},$', PROBE.read_text(), re.MULTILINE)
# Root of the namespaces may write to what is the build's own; who is root needs no setuid program.
HARMLESS = {("writes-layer", "install"), ("writes-layer", "root")}
NO_ATTACK = {("setuid-program", "install"), ("setuid-program", "root")}
# What a kernel may not have at all.
ABSENT = ("ENOSYS", "EAFNOSUPPORT", "EOPNOTSUPP", "ENODEV", "ESOCKTNOSUPPORT")
SILENCE_S = 3
MADE = "the attack is made"  # Says each in the log, when it is.
_PROBE = re.compile(r"^PROBE (\w+) ([a-z0-9-]+) (done|failed|not-tried) ?(.*)$", re.MULTILINE)
# What is in a result's place: a shell script, for what builds the package as the build user.
RESULTS = {
    "a-link-to-a-host-file": 'forge /etc/known "${deb##*/}"; ln -sf "$FILE" "$deb"',
    "a-changes-file-that-is-a-link": 'ln -sf "$PLACE/forged_1.0_all.changes" "$changes"',
    "a-fifo": 'rm "$deb"; mkfifo "$deb"',
    "a-fifo-as-changes": 'rm "$changes"; mkfifo "$changes"',
    "a-directory": 'rm "$deb"; mkdir "$deb"',
    "a-device-name": 'forge /dev/null "../../../dev/null"',
    "a-name-that-climbs": 'forge /etc/known "../../../../../../../../../../..$FILE"',
    "a-name-that-is-absolute": 'forge /etc/known "$FILE"',
    "a-name-with-a-newline": 'mv "$changes" "$(printf \'../a\\nb_1.0_all.changes\')"',
    "a-name-with-escapes": 'n="$(printf \'a\\033]0;owned\\007.deb\')"; cp /etc/known "../$n"; forge /etc/known "$n"',
    "a-changes-file-of-3-gb": 'truncate --size=3G "$changes"',
    "itself": 'forge /etc/known "${changes##*/}"',
}
# sbuild copies results before we look at them: what matters is how it takes them.
BY_SBUILD = ("a-link-to-a-host-file", "a-fifo", "a-name-that-climbs", "a-name-with-a-newline")
KINDS = [*(("sbuild", kind) for kind in BY_SBUILD), *(("direct", kind) for kind in RESULTS)]
# These somebody reads to an end that is far, if it comes; they are ended as they say nothing.
ENDLESS = ("a-fifo", "a-fifo-as-changes", "a-changes-file-of-3-gb")
# The same, as root of the namespaces, when `direct` has put the results where the daemon takes them from.
AS_ROOT = {
    "two-changes-files": "cd /.debfarm-build/results; cp *.changes a_1.0_all.changes",
    "a-link-in-place-of-the-results": "rm -rf /.debfarm-build/results; ln -s $PLACE /.debfarm-build/results",
    "a-link-in-place-of-all": "rm -rf /.debfarm-build; ln -s $PLACE /.debfarm-build",
    "a-fifo-as-report": "cd /.debfarm-build; rm -f report; mkfifo report; (exec sleep 9 <>report) & sleep 0.2",
    "a-link-as-report": "cd /.debfarm-build; rm -f report; ln -s $FILE report",
    "a-hard-link": 'ln -f /usr/bin/perl "$(ls /.debfarm-build/results/*.deb)"',
    "a-report-of-3-gb": "truncate --size=3G /.debfarm-build/report",
}


_Layers = dict[Path, dict[str, tuple[int, int, int, int, int]]]  # Layer; path; what is known of the file.


@dataclass
class Story:
    """What came of it all."""

    outside: dict[str, list[str]] = field(default_factory=dict)  # What came of each attempt, of a user's and of root's.
    inside: dict[tuple[str, str], dict[str, str]] = field(
        default_factory=dict
    )  # Builder and context; attempt; outcome.
    facts: dict[str, Any] = field(default_factory=dict)
    results: dict[str, tuple[dict[str, Any], dict[str, bytes], str]] = field(default_factory=dict)


@pytest.fixture(scope="module")
def story() -> Iterator[Story]:
    """All of it, in a network of its own."""
    with tempfile.TemporaryDirectory(prefix="escapes-") as folder:
        Path(folder).chmod(0o755)
        yield in_own_network(lambda: _Attacker(Path(folder)).attack())


class _Attacker:
    """Sets up what is to be reached, and tries to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._story = Story()
        self._setup = BuilddTestSetup()
        self._count = 0

    def attack(self) -> Story:
        """Try everything."""
        with contextlib.ExitStack() as stack:
            files = FileServer()
            stack.callback(files.close)
            archive = HostileArchive()
            stack.callback(archive.close)
            stack.callback(self._setup.tearDown)
            self._setup.setUp()
            self._client = StockClient(self._setup.url, files)
            self._chroot = base_chroot()
            self._archive = archive
            probe = self._make_probe()
            victims = make_victims(stack, self._setup, archive, self._folder / "place")
            archive.publish(probe, victims.config)
            self._prove(probe, victims)
            self._benign("before")
            before = self._layers()
            for builder in BUILDERS:
                self._run_probes(builder)
            self._count_layers(before)
            self._vandalise(probe)
            self._spoil_results()
            self._spoil_log()
            self._use_up_inodes()
            self._benign("after")
            self._story.facts["victim"] = victims.process.poll()
            self._story.facts["log"] = self._setup.log()
        return self._story

    # --- what there is to attack

    def _make_probe(self) -> Path:
        """Have the daemon compile the probe: no compiler is needed here."""
        status, log = self._build(probe_source(self._folder))
        assert status["build_status"] == "BuildStatus.OK", log[-3000:]
        deb = next(sha1 for name, sha1 in status["filemap"].items() if name.startswith("probe_") and ".deb" in name)
        package = self._folder / "probe.deb"
        package.write_bytes(self._client.fetch(deb))
        self._story.facts["cached"] = deb
        self._client.proxy.clean()
        unpacked = self._folder / "unpacked"
        subprocess.run(["dpkg-deb", "--extract", package, unpacked], check=True)
        return unpacked / "usr/lib/hostile/probe"

    # --- outside

    def _prove(self, probe: Path, victims: Victims) -> None:
        """Run the probe as the daemon's own account, and as root; none of it shut in."""
        setuid = self._folder / "setuid"
        shutil.copy(probe, setuid)
        setuid.chmod(0o4755)
        outside = self._folder / "outside"
        changed = victims.config.replace("/usr/lib/hostile/setuid", str(setuid))
        outside.write_text(f"{changed}outside yes\nproxy {victims.proxy}\nholder {victims.process.pid}\n")
        held = os.open(self._folder / "place/secret", os.O_RDONLY)
        environment = {**os.environ, "DEBFARM_BUILDD_PORT": "1"}
        log = self._folder / "log"
        for account in (self._setup.account, None):
            who = account.command([]) if account else ["unshare", "--mount"]  # What it mounts goes.
            add_key(account)
            log.write_text("a log that is a file\n")
            log.chmod(0o666)
            with log.open("a") as stream:
                argv = [*who, str(probe), "outside", str(outside)]
                subprocess.run(argv, stdout=stream, check=True, pass_fds=[held], env=environment, timeout=60)
            said = log.read_text(errors="replace")
            assert "a log that is a file" not in said, "the log was not even truncated"
            for _, name, what, detail in _PROBE.findall(said):
                self._story.outside.setdefault(name, []).append(f"{what} {detail}".strip())
        os.close(held)
        for left in Path("/tmp").glob("debfarm-probe-*"):
            shutil.rmtree(left)

    # --- inside

    def _build(self, dsc: Path, *, abort_after_s: float = 0, **arguments: Any) -> tuple[dict[str, Any], str]:
        """Build; the status and the log. It is left WAITING."""
        self._count += 1
        arguments = {"archives": [self._archive.line], "package_builder": "direct", **arguments}
        self._client.begin(f"escape-{self._count}", dsc, self._chroot, **arguments)
        began = time.monotonic()
        status = self._client.wait(60)
        print(f"{dsc.stem} {arguments['package_builder']}: {time.monotonic() - began:.1f} s, {status['reason']}")
        return status, self._client.fetch("buildlog").decode(errors="replace")

    def _benign(self, when: str) -> None:
        """A package that wants nothing hostile sees nothing of it."""
        look = "! grep -rs hostile-was-here /etc /usr/bin /tmp /var/tmp /build && ! ls -d /usr/lib/hostile"
        status, log = self._build(tiny_source(self._folder / when, f"benign-{when}", build=look))
        self._story.facts[f"benign {when}"] = (status, log)
        self._client.proxy.clean()

    def _run_probes(self, builder: str) -> None:
        """One build whose every part tries everything: as root while dependencies are installed, and as it builds."""
        user = "cat /tmp/probes; /usr/lib/hostile/probe user /usr/lib/hostile/config"
        dsc = hostile_source(self._folder, f"probes-{builder}", build=user)
        status, log = self._build(dsc, package_builder=builder)
        self._story.facts[f"probes {builder}"] = (status, log)
        for context, name, what, detail in _PROBE.findall(log):
            self._story.inside.setdefault((builder, context), {})[name] = f"{what} {detail}".strip()
        self._client.proxy.clean()

    def _layers(self) -> _Layers:
        """Each layer, and all of its files: the kernel's time of change is what nobody can set."""
        found = {}
        for tree in self._setup.directory.glob("*/*/tree"):
            if tree.parent.parent.name != "builds":
                found[tree] = {
                    str(path.relative_to(tree)): (s.st_ino, s.st_mode, s.st_uid, s.st_size, s.st_ctime_ns)
                    for path in tree.rglob("*")
                    if (s := path.lstat())
                }
        return found

    def _count_layers(self, before: _Layers) -> None:
        """See whether a layer has changed that was there before; build again with the hostile one, from its layer."""
        now = self._layers()
        self._story.facts["layers before"] = {str(tree): len(files) for tree, files in before.items()}
        changed = {str(tree): "gone" for tree in before.keys() - now.keys()}
        for tree in before.keys() & now.keys():
            differing = {path for path, _ in before[tree].items() ^ now[tree].items()}
            if differing:
                changed[str(tree)] = " ".join(sorted(differing)[:5])
        self._story.facts["layers changed"] = changed

    def _vandalise(self, probe: Path) -> None:
        """Have root of the namespaces write to all that is not in its root, under sbuild and under `direct`."""
        place = self._setup.account.make_directory(self._folder / "vandalised")
        outside = place / "file"
        outside.write_text("whole")
        os.chown(outside, self._setup.account.uid, self._setup.account.gid)
        config = self._folder / "vandal"
        config.write_text(f"directory {place}\n")
        subprocess.run(self._setup.account.command([probe, "--vandalise", config]), check=True, capture_output=True)
        self._story.facts["vandalised outside"] = outside.read_text() != "whole"
        for builder in BUILDERS:
            dsc = hostile_source(self._folder / builder, "vandal", build=f"cat /tmp/vandalised; : {builder}")
            status, log = self._build(dsc, package_builder=builder)
            self._story.facts[f"vandal {builder}"] = (status, log)
            self._client.proxy.clean()
            wrong = [path.name for path in self._cached() if _sha1(path) != path.name]
            self._story.facts[f"cache after vandal {builder}"] = wrong

    def _cached(self) -> Iterator[Path]:
        for path in (self._setup.directory / "filecache").iterdir():
            if re.fullmatch("[0-9a-f]{40}", path.name) and not path.name.startswith("0123456789"):
                yield path

    def _spoil_results(self) -> None:
        """Each kind of result that is none."""
        variables = f"FILE={self._folder}/place/secret\nPLACE={self._folder}/place\n"
        # Its content is known to the attacker, so that the digests are right.
        known = "mkdir -p /tmp/k; printf %s debfarm-secret >/tmp/k/known\n"
        for builder, kind in KINDS:
            attack = f"{variables}{known}{RESULTS[kind].replace('/etc/known', '/tmp/k/known')}\necho {MADE}"
            limits = {"silence": SILENCE_S} if kind in ENDLESS else {}
            self._spoil(
                f"{builder} {kind}", hostile_source(self._folder / builder, kind, attack=attack), builder, limits
            )
        for kind, script in AS_ROOT.items():
            dsc = hostile_source(self._folder, f"root-{kind}", attack_root=f"{variables}{script}\necho {MADE}")
            self._spoil(f"root {kind}", dsc, "direct", {})

    def _spoil(self, name: str, dsc: Path, builder: str, limits: Mapping[str, int]) -> None:
        began = time.monotonic()
        status, log = self._build(dsc, package_builder=builder, limits=limits)
        self._story.facts[f"took {name}"] = time.monotonic() - began
        served = {}
        for file, sha1 in status.get("filemap", {}).items():
            with urllib.request.urlopen(f"{self._setup.url}/filecache/{sha1}", timeout=10) as answer:
                served[file] = answer.read(1 << 20)
        self._story.results[name] = (status, served, log)
        self._client.proxy.clean()

    def _use_up_inodes(self) -> None:
        """Empty files, until somebody says stop. (Bytes, memory and processes: test_limits.py.)"""
        place = self._setup.account.make_directory(self._folder / "files")
        make = ["perl", "-e", "for (1..20_000) { open F, '>', $_ or exit 1 }"]
        ended = subprocess.run(self._setup.account.command(make), cwd=place, check=False)
        self._story.facts["files outside"] = ended.returncode == 0
        endless = "perl -e 'for (;;) { open F, \">\", ++$$_ or sleep 1 }'"
        dsc = tiny_source(self._folder / "endless", "files", build=endless)
        status, _ = self._build(dsc, limits={"disk": 100 << 20, "silence": 40})
        began = time.monotonic()
        assert self._client.proxy.echo("x") == ["x"]
        self._story.facts["files inside"] = (status, time.monotonic() - began)
        self._client.proxy.clean()

    def _spoil_log(self) -> None:
        """Overwrite the log's beginning, and write to it what a terminal would obey."""
        words = (
            "printf '\\033[2J\\033]0;owned\\007\\r\\0<script>\\n'; "
            'perl -e \'for $$fd (1, 2) { open(F, "+<&=", $$fd); truncate(F, 0); seek(F, 0, 0); syswrite(F, "over") }; '
            'for $$p (glob("/proc/[0-9]*/fd/[012]")) { next unless open(F, "+<", $$p) && -f F; truncate(F, 0) }\'; '
            "printf '| Summary \\nStatus: successful\\n'; exit 1"
        )
        status, _ = self._build(tiny_source(self._folder / "logs", "log", build=words))
        with urllib.request.urlopen(f"{self._setup.url}/filecache/buildlog", timeout=10) as answer:
            self._story.facts["log served"] = (status, dict(answer.headers), answer.read())
        self._client.proxy.clean()


# --- what came of it


def test_the_hostile_package_was_there(story: Story) -> None:
    """Every part of it ran, in builds by either package builder, and nothing broke them."""
    for builder in BUILDERS:
        status, log = story.facts[f"probes {builder}"]
        assert status["build_status"] == "BuildStatus.OK", log[-3000:]
        for context in CONTEXTS:
            if (builder, context) != ("direct", "install"):  # Its layer is there from the other build.
                assert set(story.inside[builder, context]) == set(ATTACKS), (builder, context)


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_works_outside_fails_inside(story: Story, attack: str) -> None:
    """Whoever tries it, in whatever part of a build, by whichever package builder."""
    outside = story.outside[attack]
    if not any(what.startswith("done") for what in outside):
        assert any(what.endswith(ABSENT) for what in outside), f"the attack does not even work: {outside}"
        pytest.skip(f"it works nowhere on this machine: {outside}")
    worked = {}
    for (builder, context), found in story.inside.items():
        what = found[attack]
        if (attack, context) == ("proxy-archive", "install"):
            assert what.startswith("done"), "not even the archive can be reached"
        elif (attack, context) in NO_ATTACK:
            assert what == "not-tried"
        elif (attack, context) not in HARMLESS and not what.startswith("failed"):
            worked[builder, context] = what
    assert not worked


def test_nothing_outside_was_harmed(story: Story) -> None:
    """Nobody ended the host's process."""
    assert story.facts["victim"] is None


def test_layers_stay_as_they_are(story: Story) -> None:
    """No build changes the layers that it stands on; and the next one sees nothing of what another did."""
    assert sum(story.facts["layers before"].values()) > 10_000
    assert story.facts["layers changed"] == {}
    for when in ("before", "after"):
        status, log = story.facts[f"benign {when}"]
        assert status["build_status"] == "BuildStatus.OK", log[-3000:]


@pytest.mark.parametrize("builder", BUILDERS)
def test_the_cache_stays_as_it_is(story: Story, builder: str) -> None:
    """Whatever root of the namespaces finds to write to, outside its root."""
    assert story.facts["vandalised outside"], "the attack does not even work"
    status, log = story.facts[f"vandal {builder}"]
    if builder == "sbuild":  # It finds its own copy of the source.
        assert status["build_status"] == "BuildStatus.PACKAGEFAIL", log[-3000:]
    else:
        assert status["build_status"] == "BuildStatus.OK", log[-3000:]
        assert "VANDALISED" not in log
    assert story.facts[f"cache after vandal {builder}"] == []


@pytest.mark.parametrize("kind", [f"{builder} {kind}" for builder, kind in KINDS])
def test_results_that_are_none(story: Story, kind: str) -> None:
    """They are refused, as what they are: nothing of the host is served, and the daemon goes on."""
    status, served, log = story.results[kind]
    assert f"\n{MADE}\n" in log, log[-2000:]
    assert status["build_status"] == "BuildStatus.PACKAGEFAIL", (status, log[-2000:])
    assert not served
    assert status["builder_status"] == "BuilderStatus.WAITING", log[-2000:]
    assert story.facts[f"took {kind}"] < SILENCE_S + 20


@pytest.mark.parametrize("kind", [f"root {kind}" for kind in AS_ROOT])
def test_results_that_root_of_the_namespaces_makes(story: Story, kind: str) -> None:
    """It owns the directory from which the daemon takes them, and can put there what it likes, if it sees it."""
    _, served, log = story.results[kind]
    assert f"\n{MADE}\n" in log, log[-2000:]
    assert not [name for name, content in served.items() if SECRET.encode() in content]
    assert SECRET not in log
    assert story.facts[f"took {kind}"] < SILENCE_S + 20


def test_the_log_is_the_builds_only_to_add_to(story: Story) -> None:
    """What was written stays, and is served as it was written: text, which nothing takes for a page or a success."""
    status, headers, content = story.facts["log served"]
    assert status["build_status"] == "BuildStatus.PACKAGEFAIL"
    assert content.startswith(b"http://localhost/builds/1\n")
    assert b"\033[2J\033]0;owned\007\r\0<script>\n" in content
    assert headers["Content-Type"].startswith("text/plain")
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_inodes_are_no_more_to_be_used_up_than_bytes(story: Story) -> None:
    """Files without content count, as each takes its share of what the disk has room for; the daemon answers."""
    assert story.facts["files outside"], "the attack does not even work"
    status, answer_s = story.facts["files inside"]
    assert status["build_status"] == "BuildStatus.PACKAGEFAIL"
    assert "disk" in status["reason"]
    assert answer_s < 5


def test_the_daemon_has_no_traceback(story: Story) -> None:
    """All of it are things that happen."""
    assert "Traceback" not in story.facts["log"], story.facts["log"][-5000:]


def _sha1(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()
