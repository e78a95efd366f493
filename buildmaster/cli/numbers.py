"""Build numbers on the command line."""

import click

_MAX = 2**63 - 1  # What the database can hold.
_MAX_DIGITS = len(str(_MAX))


def build_number(word: str) -> int:
    """Take a build's number, from 1; whether there is such a build is not looked at. A type of parameter, for click.

    :raises click.BadParameter: it is none, or too large.
    """
    if word.isascii() and word.isdecimal() and len(word) <= _MAX_DIGITS and 1 <= int(word) <= _MAX:
        return int(word)
    raise click.BadParameter(f"{word!r} is not a build number")
