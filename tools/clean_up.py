"""Remove the demo's directory, after ending what a killed demo left running."""

import contextlib
import sys

from tools.account import NoSubordinateIds, build_account
from tools.children import Register
from tools.places import Busy, Places, default_root, lock


def main() -> int:
    """The command; returns its exit status."""
    places = Places(default_root())
    if not places.root.exists():
        return 0
    try:
        account = build_account()
        with lock(places.lock):
            Register(places.register).end_leftovers()
            # Its parts, one by one: the directory may have been given, and hold other things.
            for part in places.parts():
                account.remove_tree(part)
    except (Busy, NoSubordinateIds) as error:
        print(f"debfarm: {error}", file=sys.stderr)
        return 1
    with contextlib.suppress(OSError):  # Not empty.
        places.root.rmdir()
    print(f"debfarm: removed what was in {places.root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
