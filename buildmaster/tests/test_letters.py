"""What people and programs are told of a build."""

import dataclasses
import email
import email.policy
import json

from buildmaster import letters
from buildmaster.letters import News

NEWS = News(
    id=3,
    to="somebody@example.org",
    build_id=7,
    title="amd64 build of hello 1.0 in debian bookworm RELEASE",
    state="failed",
    reason="the package does not build: see the log",
    cause="compile",
    error="hello.c:1: error: expected ';'\nmake: *** [hello] Error 1",
    builder="x86",
    log="/srv/farm/store/5a/e1f6",
    command="buildmaster --dir /srv/farm log 7",
    at=1_700_000_000.0,
)


def read(news: News) -> email.message.EmailMessage:
    sent = bytes(letters.letter(news, "farm@example.org"))
    assert sent.isascii()  # Every server takes it.
    return email.message_from_bytes(sent, policy=email.policy.default)


def test_a_letter() -> None:
    """It says which build, how it ended and why, the first error, and where the log is."""
    message = read(NEWS)
    assert message["Subject"] == "failed: amd64 build of hello 1.0 in debian bookworm RELEASE"
    assert (message["From"], message["To"]) == ("farm@example.org", "somebody@example.org")
    text = message.get_content()
    for words in ("7: amd64 build of hello", "Cause:   compile", "Builder: x86", "  make: *** [hello] Error 1"):
        assert words in text
    assert "/srv/farm/store/5a/e1f6" in text and "buildmaster --dir /srv/farm log 7" in text


def test_sent_again() -> None:
    """The same news has the same Message-ID, whatever is told of it by then; other news has another."""
    again = dataclasses.replace(NEWS, log="")
    assert read(again)["Message-ID"] == read(NEWS)["Message-ID"] != read(dataclasses.replace(NEWS, id=4))["Message-ID"]


def test_strangers_words() -> None:
    """What a builder wrote gets into no header, and drives no terminal."""
    bad = "x\r\nBcc: all@example.org\r\n\r\n\x1b[2J ü \x9b \u202e"
    news = dataclasses.replace(NEWS, title=bad, reason=bad, error=bad + "\n" + "y" * 2000)
    message = read(news)
    assert message["Bcc"] is None and len(message["Subject"]) < 400
    text = message.get_content()
    assert not {"\x1b", "\x9b", "\u202e"} & set(text) and "ü" in text
    assert json.loads(letters.document(news))["error"] == news.error
