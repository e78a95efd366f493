"""The document of a build's life is that of the table."""

from xml.etree import ElementTree

from buildmaster.lifecycle import TRANSITIONS, BuildState, Event
from tools.lifecycle import DOCUMENT, PICTURE, comments, document, dot, row_comments, stamp

HINT = "run `python -m tools.lifecycle`"


def test_the_document_is_up_to_date() -> None:
    """docs/lifecycle.md says what the table says."""
    assert DOCUMENT.read_text() == document(), HINT


def test_the_picture_is_up_to_date() -> None:
    """docs/lifecycle.svg was drawn of the table as it is, and is a picture."""
    picture = PICTURE.read_text()
    assert picture.endswith(stamp(dot())), HINT
    names = {element.text for element in ElementTree.fromstring(picture).iter("{http://www.w3.org/2000/svg}text")}
    assert names >= set(BuildState)


def test_every_state_and_event_is_explained() -> None:
    """Each has a comment, and each comment on a row is one on a row that there is."""
    assert comments(BuildState).keys() == set(BuildState.__members__)
    assert comments(Event).keys() == set(Event.__members__)
    assert row_comments() and row_comments().keys() <= TRANSITIONS.keys()
