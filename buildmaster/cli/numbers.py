"""Parameters that several commands have: build numbers, pockets."""

from collections.abc import Callable
from typing import Any

import click

from buildmaster.scoring import Pocket

_MAX = 2**63 - 1  # What the database can hold.
_MAX_DIGITS = len(str(_MAX))


def build_number(word: str) -> int:
    """Take a build's number, from 1; whether there is such a build is not looked at. A type of parameter, for click.

    :raises click.BadParameter: it is none, or too large.
    """
    if word.isascii() and word.isdecimal() and len(word) <= _MAX_DIGITS and 1 <= int(word) <= _MAX:
        return int(word)
    raise click.BadParameter(f"{word!r} is not a build number")


def pocket_option(text: str, *, required: bool = False) -> Callable[[Any], Any]:
    """Add --pocket to a command, which gets a Pocket; RELEASE unless it must be said."""

    def parse(context: click.Context, parameter: click.Parameter, value: str) -> Pocket:
        return Pocket(value.upper())

    names = click.Choice([each.lower() for each in Pocket], case_sensitive=False)
    default: dict[str, Any] = {"required": True} if required else {"default": "release", "show_default": True}
    return click.option("--pocket", type=names, callback=parse, help=text, **default)
