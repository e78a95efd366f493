"""What of a build's files is counted. How they come is tested with builders, in test_scanner.py and its neighbours."""

import pytest

from buildd.protocol import Sha1
from buildmaster.fetching import Room, TooLong

ONE, TWO = Sha1("1" * 40), Sha1("2" * 40)


def test_room_is_for_all_files_together() -> None:
    """A file that is fetched anew gives back what it took; the first byte too many is refused."""
    room = Room(10)
    room.take(ONE, 6)
    room.take(ONE, 0)
    room.take(TWO, 4)
    room.take(ONE, 6)
    with pytest.raises(TooLong, match="10 bytes together"):
        room.take(TWO, 5)
