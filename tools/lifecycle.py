"""docs/lifecycle.md and its picture, made of buildmaster/lifecycle.py: `python -m tools.lifecycle` writes both.

The words are the comments of that file, so that they are said once. The picture is drawn by Graphviz, whose versions
draw differently: beside it is kept of which text it was drawn, and a test compares that.
"""

import hashlib
import re
import subprocess
import sys
from enum import StrEnum
from pathlib import Path

from buildmaster import lifecycle
from buildmaster.lifecycle import ACTIVE, ENDED, QUEUED, TRANSITIONS, BuildState, Event, why_refused

DOCS = Path(__file__).parent.parent / "docs"
DOCUMENT, PICTURE = DOCS / "lifecycle.md", DOCS / "lifecycle.svg"

_MEMBER = re.compile(r'^    ([A-Z_]+) = "[a-z-]+"  # (.+)$', re.M)
_ROW = re.compile(r"^    \(_S\.([A-Z_]+), _E\.([A-Z_]+)\): _S\.[A-Z_]+,  # (.+)$", re.M)
_COLOURS = {QUEUED: "#fff3c4", ACTIVE: "#cfe5ff", frozenset({BuildState.BUILT}): "#d3f2d3", ENDED: "#eeeeee"}

_INTRODUCTION = """\
# The life of a build

Made of `buildmaster/lifecycle.py` by `python -m tools.lifecycle`; change that file, not this one.

![The states, and which event leads where](lifecycle.svg)

Yellow: in the queue. Blue: a builder has it. Grey and green: it has ended. A build begins as *needs-build*. Not drawn:
what leaves a build in its state, superseding, and the retry by hand that brings back what ended badly.
"""


def _source() -> str:
    return Path(str(lifecycle.__file__)).read_text()


def comments(words: type[StrEnum]) -> dict[str, str]:
    """The comment on each member of an enum of that module, by the member's name."""
    text = _source().partition(f"class {words.__name__}(StrEnum):")[2].partition("\nclass ")[0]
    return dict(_MEMBER.findall(text))


def row_comments() -> dict[tuple[BuildState, Event], str]:
    """The comments on rows of the table; not every row has one."""
    return {(BuildState[state], Event[event]): comment for state, event, comment in _ROW.findall(_source())}


def document() -> str:
    """The whole of docs/lifecycle.md."""
    states, events = comments(BuildState), comments(Event)
    parts = [_INTRODUCTION, "## States\n", *(f"- **{each}**: {states[each.name]}" for each in BuildState)]
    parts += ["\n## Events\n", *(f"- *{each}*: {events[each.name]}" for each in Event)]
    parts += ["\n## What leads where", *(_leaving(state) for state in BuildState)]
    return "\n".join(parts) + "\n"


def _leaving(state: BuildState) -> str:
    """What becomes of a build in this state."""
    said = row_comments()
    lines = [f"\n### {state}\n"]
    rows = [(event, new) for (old, event), new in TRANSITIONS.items() if old is state]
    if rows:
        lines += ["| event | leads to | |", "|---|---|---|"]
        lines += [f"| {event} | {new} | {said.get((state, event), '')} |" for event, new in rows]
        lines += [""]
    refused: dict[str, list[Event]] = {}
    for event in Event:
        if (state, event) not in TRANSITIONS:
            refused.setdefault(why_refused(state, event), []).append(event)
    lines += ["Refused:\n"]
    lines += [f"- {', '.join(events)}: {why}." for why, events in refused.items()]
    return "\n".join(lines)


def dot() -> str:
    """The diagram, as Graphviz reads it."""
    lines = ["digraph lifecycle {", "  rankdir=LR; fontname=Helvetica;"]
    lines += ['  node [shape=box, style="rounded,filled", fontname=Helvetica];']
    lines += ["  edge [fontname=Helvetica, fontsize=10];"]
    for state in BuildState:
        colour = next(colour for states, colour in _COLOURS.items() if state in states)
        lines += [f'  "{state}" [fillcolor="{colour}"];']
    for (old, new), events in _edges().items():
        label = "\\n".join(events)
        lines += [f'  "{old}" -> "{new}" [label="{label}"];']
    return "\n".join([*lines, "}"]) + "\n"


def _edges() -> dict[tuple[BuildState, BuildState], list[Event]]:
    """The events that are drawn, by where they lead."""
    edges: dict[tuple[BuildState, BuildState], list[Event]] = {}
    for (old, event), new in TRANSITIONS.items():
        if old is not new and event not in (Event.SUPERSEDE, Event.RETRY):
            edges.setdefault((old, new), []).append(event)
    return edges


def stamp(text: str) -> str:
    """What says in a picture of which text it was drawn."""
    return f"<!-- drawn of a text of SHA-256 {hashlib.sha256(text.encode()).hexdigest()} -->\n"


def main() -> int:
    """Write both."""
    text = dot()
    drawn = subprocess.run(["dot", "-Tsvg"], input=text, capture_output=True, text=True, check=True).stdout
    PICTURE.write_text(drawn + stamp(text))
    DOCUMENT.write_text(document())
    return 0


if __name__ == "__main__":
    sys.exit(main())
