"""The rules for uploads: whatever was written into an upload, they say what is wrong with it, and never fail."""

from pathlib import PurePath

from debian.debian_support import Version
from hypothesis import given, settings
from hypothesis import strategies as st

from buildd.control import ControlError, parse_changes, parse_dsc
from buildmaster.scoring import Pocket
from buildmaster.tests.uploading import Upload as Written
from buildmaster.uploading import rules
from buildmaster.uploading.rules import Came, Target, Upload

SERIES = frozenset({"bookworm", "trixie", "with-dash"})
TARGET = Target("debian/mine", SERIES, False, {("bookworm", Pocket.RELEASE): "1.0"})
NAME = PurePath("hello_2.0_source.changes")


def test_suites() -> None:
    """A series is its release pocket; with a pocket behind a dash it is that; and nothing else is any."""
    assert rules.suite("bookworm", SERIES) == ("bookworm", Pocket.RELEASE)
    assert rules.suite("bookworm-security", SERIES) == ("bookworm", Pocket.SECURITY)
    assert rules.suite("with-dash", SERIES) == ("with-dash", Pocket.RELEASE)
    assert rules.suite("with-dash-proposed", SERIES) == ("with-dash", Pocket.PROPOSED)
    for word in ("sid", "", "-updates", "bookworm-release", "bookworm-UPDATES", "bookworm updates", "dash-updates"):
        assert rules.suite(word, SERIES) is None


def test_components() -> None:
    """What stands before the slash of a section, or main."""
    assert [rules.component(each) for each in ("misc", "contrib/net", "non-free/a/b")] == [
        "main",
        "contrib",
        "non-free",
    ]


def judge(text: bytes) -> list[str]:
    """What is wrong with a .changes of this text, whose files all came."""
    if found := rules.unreadable(NAME.name, text):
        return found
    try:
        changes = parse_changes(NAME, text)
    except ControlError as error:
        return list(error.faults)
    Version(changes.version)
    came = {str(each.name): Came(each.size, each.sha256) for each in changes.files}
    return rules.faults(Upload(NAME.name, changes, came), TARGET)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes(text: bytes) -> None:
    """Whatever a .changes has in it."""
    assert judge(text)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_change(data: st.DataObject) -> None:
    """However a good one is changed: a few bytes, or a field's value."""
    written = Written(version="2.0")
    if data.draw(st.booleans()):
        text = bytearray(written.changes(written.dsc()))
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    else:
        names = ("Source", "Version", "Distribution", "Architecture", "Files", "Checksums-Sha256", "Urgency")
        said = data.draw(st.text(st.characters(codec="utf-8"), max_size=60))
        changed = Written(version="2.0", changes_fields={data.draw(st.sampled_from(names)): said})
        text = bytearray(changed.changes(changed.dsc()))
    for fault in judge(bytes(text)):
        assert rules.words(fault).isprintable()


@settings(max_examples=300, deadline=None)
@given(st.from_regex(r"[0-9a-zA-Z.+~:-]{1,20}", fullmatch=True))
def test_any_version(version: str) -> None:
    """A version that is taken can be compared."""
    written = Written(version="2.0", dsc_fields={"Version": version})
    try:
        dsc = parse_dsc(PurePath("hello_2.0.dsc"), written.dsc())
    except ControlError:
        return
    assert Version(dsc.version) == Version(version)
