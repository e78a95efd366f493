"""Resource tags: words for what a builder has beside its architecture (`gpu`, `large`), and a build needs. Pure.

A set of tags is kept as one string, its words sorted and with single spaces between them, so that equal sets are equal
strings, to the database too.
"""

import re
from collections.abc import Iterable

LONGEST = 255  # Characters of a set; what its columns hold.

_TAG = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}", re.ASCII)


class TagsRefused(ValueError):
    """These cannot be resource tags; the message says why."""


def parse(words: Iterable[str]) -> str:
    """A set of tags as it is kept, from words that a person gave.

    :raises TagsRefused: one of them is none, or they are too many.
    """
    found = set(words)
    for word in found:
        if not _TAG.fullmatch(word):
            raise TagsRefused(f"{word!r} is no resource tag: those are of lower-case letters, digits and . + -")
    return union(*found)


def union(*sets: str) -> str:
    """All tags of several sets, as one.

    :raises TagsRefused: they are too many.
    """
    joined = " ".join(sorted({word for each in sets for word in each.split()}))
    if len(joined) > LONGEST:
        raise TagsRefused(f"these resource tags are longer than {LONGEST} characters together: {joined}")
    return joined


def can_take(needed: str, offered: str, restricted: str) -> bool:
    """Whether a builder may have a build.

    :param needed: what the build asks for: the builder must have it all.
    :param offered: what the builder has for whoever asks.
    :param restricted: what it has as well, and is kept for: the build must ask for all of it.
    """
    needs, kept_for = set(needed.split()), set(restricted.split())
    return kept_for <= needs <= kept_for | set(offered.split())
