"""What a notification says: a letter for people, a document for programs. Pure.

Of what strangers wrote (the first error, the reason) nothing gets into a header, and nothing that drives a terminal
into the text.
"""

import json
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from email.policy import default
from email.utils import formatdate

# So that every server takes it; Twisted makes the ends of lines what they are on the wire.
_POLICY = default.clone(cte_type="7bit")
_SUBJECT_MAX = 200


@dataclass(frozen=True)
class News:
    """A build that ended so that somebody is told; or what became of an upload, for who signed it."""

    id: int  # The notification's, which says it once.
    to: str
    build_id: int | None  # None: it is an upload.
    title: str
    state: str
    reason: str
    cause: str
    error: str  # The lines of the log that tell what went wrong first.
    builder: str
    log: str  # Where the log is; "" when there is none, or another attempt's by now.
    command: str  # That shows it.
    at: float  # Unix time.
    upload_id: int | None = None  # None: it is a build.

    @property
    def about(self) -> str:
        """What it is about, in a word and its id."""
        return f"upload-{self.upload_id}" if self.build_id is None else f"build-{self.build_id}"


def document(news: News) -> bytes:
    """As one JSON object, for a command's standard input."""
    said = asdict(news)
    del said["id"]
    return json.dumps(said).encode() + b"\n"


def letter(news: News, sender: str) -> EmailMessage:
    """As a message. Sent again, it has the same Message-ID."""
    message = EmailMessage(policy=_POLICY)
    message["From"] = sender
    message["To"] = news.to
    message["Subject"] = _one_line(f"{news.state}: {news.title}")[:_SUBJECT_MAX]
    message["Date"] = formatdate(news.at)
    message["Message-ID"] = f"<{news.about}.{news.id}.{int(news.at)}.{sender}>"
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office replies.
    message["X-Debfarm-State"] = news.state
    message.set_content(text(news))
    return message


def text(news: News) -> str:
    """For people."""
    word, _, number = news.about.partition("-")
    facts = [(word.capitalize(), f"{number}: {_one_line(news.title)}"), ("State", news.state)]
    facts += [("Why", _one_line(news.reason)), ("Cause", news.cause), ("Builder", news.builder)]
    facts += [("Log", news.log), ("Read it", news.command if news.log else "")]
    lines = [f"{name + ':':9}{value}" for name, value in facts if value]
    if news.error:
        heading = "First error:" if word == "build" else "What is wrong with it:"
        lines += ["", heading, *(f"  {_one_line(line)}" for line in news.error.splitlines())]
    return "\n".join(lines) + "\n"


def _one_line(said: str) -> str:
    return "".join(each if each.isprintable() else " " for each in said).strip()
