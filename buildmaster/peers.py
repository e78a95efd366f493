"""Who is at the other end of connections, and how many of these one may have. Pure."""

from collections import Counter
from ipaddress import IPv4Address, ip_address, ip_network


def who(address: str) -> str:
    """One client, by its address: of IPv6, all that a household or a machine has is one."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, IPv4Address):
        return str(found)
    return str(found.ipv4_mapped or ip_network((int(found) >> 64 << 64, 64)))


class Clients:
    """The connections that are open, by who has them."""

    def __init__(self, most: int, of_one: int) -> None:
        """:param most: in all.
        :param of_one: of each.
        """
        self._most = most
        self._of_one = of_one
        self._open: Counter[str] = Counter()

    def come(self, peer: str, *, as_many_as_there_are: bool = False) -> bool:
        """There is one more. False: there are too many already, and it is not counted.

        :param peer: see who().
        :param as_many_as_there_are: this one may have all.
        """
        if self.total() >= self._most or (self._open[peer] >= self._of_one and not as_many_as_there_are):
            return False
        self._open[peer] += 1
        return True

    def go(self, peer: str) -> None:
        """There is one less."""
        self._open[peer] -= 1
        self._open += Counter()  # Without those that have none.

    def total(self) -> int:
        """How many there are."""
        return self._open.total()
