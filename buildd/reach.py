"""What of the network a command of a build may reach: its archives, or hosts that the administrator lists. Pure.

An archive is a URL and all that is below it. Into TLS nobody can look: there an archive is a host and a port.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final
from urllib.parse import unquote, urljoin

_PORTS: Final = {"http": 80, "https": 443}
_REDIRECTS_MAX: Final = 5000  # Of one run; an archive that redirects does it for each of its files.
_ARCHIVES_MAX: Final = 1000  # Of one build; each request is compared with all.
_URL_MAX: Final = 4096  # Characters.
_WELL_KNOWN_MAX: Final = 1023  # Ports of services that are none of an archive's.
_SHOWN_MAX: Final = 200  # Characters of what was asked for, in a message.
_DECODED_MAX: Final = 5  # How often something may be percent-encoded.

_URL = re.compile(r"(?P<scheme>[A-Za-z]+)://(?P<authority>[^/?#]*)(?P<path>(?:/[^?#]*)?)(?:\?(?P<query>[^#]*))?")
_AUTHORITY = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)
_NO_URL = re.compile(r'[^!-~]|[\\"<>]')
# A slash, a backslash, a control character: what comes of them is another server's guess than ours.
_ENCODED = re.compile(r"%(?:2f|5c|[01][0-9a-f]|7f)", re.IGNORECASE)
_SOURCE_LINE = re.compile(r"\s*deb(?:-src)?\s+(?:\[[^]]*\]\s*)?(\S+)")

# Clouds give out credentials of their machines at these, to whoever asks; those that are link-local are not repeated.
_METADATA: Final = frozenset(map(ipaddress.ip_address, ("fd00:ec2::254", "100.100.100.200", "168.63.129.16")))
_PRIVATE: Final = tuple(
    map(
        ipaddress.ip_network,
        ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7", "fec0::/10"),
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


class Refused(Exception):
    """Something is not to be reached; `what` was asked for, and `why` it is refused."""

    def __init__(self, what: str, why: str) -> None:
        self.what = shown(what)
        self.why = why
        super().__init__(f"{self.what}: {why}")


@dataclass(frozen=True)
class Target:
    """Where something is: an http or https URL in parts."""

    scheme: str
    host: str  # Lower case; an IPv6 address without brackets.
    port: int
    path: str  # As it was written, with the query.

    @property
    def place(self) -> tuple[str, int]:
        """Host and port."""
        return self.host, self.port

    @property
    def netloc(self) -> str:
        """Host and port as in a URL, which leaves the usual port out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The URL, without user and password."""
        return f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def decoded(self) -> "Target":
        """The same for all ways to percent-encode it: apt encodes anew what it was redirected to."""
        return replace(self, path=unquote(self.path))


@dataclass(frozen=True)
class Reach:
    """What may be reached. Values of this class never change: `led_to` gives another one."""

    archives: tuple[Target, ...] = ()  # Each path ends in a slash.
    hosts: frozenset[tuple[str, int]] = frozenset()
    redirects: frozenset[Target] = frozenset()  # Where archives of this run have led to, decoded.
    private: bool = False  # An archive is in a private network itself.

    @classmethod
    def of(cls, urls: Iterable[str]) -> "Reach":
        """Archives at these URLs. Users and passwords in them are of no account, nor are file:, cdrom: and the like.

        :raises Refused: one is no URL of an archive, or there are too many.
        """
        found = []
        for url in dict.fromkeys(urls):
            if url.partition(":")[0].lower() not in _PORTS:
                continue
            target = parse_url(url, userinfo=True)
            _check_path(url, target.path)
            found.append(replace(target, path=target.path.rstrip("/") + "/"))
            if len(found) > _ARCHIVES_MAX:
                raise Refused(url, f"no more than {_ARCHIVES_MAX} archives are reached")
        return cls(archives=tuple(dict.fromkeys(found)))

    @classmethod
    def of_hosts(cls, hosts: Iterable[str]) -> "Reach":
        """All that these serve by http and https: each a HOST, for the usual two ports, or a HOST:PORT.

        :raises Refused: one is neither.
        """
        return cls(hosts=frozenset(place for host in hosts for place in parse_host_port(host)))

    def check(self, method: str, url: str) -> Target:
        """What a request to a proxy asks for.

        :raises Refused: it is not to be reached.
        """
        what = f"{method} {url}"
        if method not in ("GET", "HEAD"):
            raise Refused(what, "only GET and HEAD are let through")
        target = parse_url(url)
        if target.scheme != "http":
            raise Refused(what, "only http is asked for in the clear; https takes CONNECT")
        if target.place in self.hosts or target.decoded in self.redirects:
            return target
        self.check_below(target, what)
        return target

    def check_below(self, target: Target, what: str = "") -> None:
        """See that a URL, of either scheme, is below an archive's.

        :raises Refused: it is not.
        """
        what = what or target.url
        if not any(_is_below(target, archive) for archive in self.archives):
            raise Refused(what, self._why)
        _check_path(what, target.path)

    def check_tunnel(self, authority: str) -> Target:
        """Where a CONNECT to HOST:PORT leads.

        :raises Refused: that is not to be reached.
        """
        what = f"CONNECT {authority}"
        host, port = _parse_authority(authority, None, what)
        target = Target("https", host, port, "/")
        places = {known.place for known in (*self.archives, *self.redirects) if known.scheme == "https"}
        if target.place not in places | self.hosts:
            raise Refused(what, self._why)
        return target

    def check_address(self, target: Target, address: str) -> None:
        """See whether a connection may be made to an address which that target's host has.

        A place that the build's master or the administrator named may be anywhere. An archive's redirect must not make
        us ask what serves only this machine; nor, from without, what serves only the network that this machine is in.

        :raises Refused: it may not.
        """
        if not self.named(target) and (_is_local(address) or (_is_private(address) and not self.private)):
            raise Refused(target.url, f"an archive's redirect must not lead to {address}")

    def found_at(self, target: Target, address: str) -> "Reach":
        """The same, once it is known where that target's host is."""
        return replace(self, private=True) if self.named(target) and _is_private(address) else self

    def named(self, target: Target) -> bool:
        """Whether its host and port are an archive's, or listed: known before any archive was asked."""
        return target.place in self.hosts or any(target.place == archive.place for archive in self.archives)

    def led_to(self, source: Target, location: str) -> "Reach":
        """The same, and where an archive's answer leads to.

        :param source: what was asked for.
        :param location: the header of the answer.
        :raises Refused: one cannot go there.
        """
        if source.place in self.hosts:  # The list is what its author means; other hosts would be on it.
            return self
        what = f"redirect to {location}"
        try:
            url = urljoin(source.url, location.strip().partition("#")[0])
        except ValueError:
            raise Refused(what, "it is no URL") from None
        target = parse_url(url, what)
        usual = {*_PORTS.values(), *(archive.port for archive in self.archives)}
        if target.port <= _WELL_KNOWN_MAX and target.port not in usual:
            raise Refused(what, f"port {target.port} is another service's")
        if len(self.redirects) >= _REDIRECTS_MAX:
            raise Refused(what, f"no more than {_REDIRECTS_MAX} are followed")
        self.check_address(target, target.host)
        return replace(self, redirects=self.redirects | {target.decoded})

    @property
    def _why(self) -> str:
        return "it is not on the list of hosts for this build" if self.hosts else "it is none of the build's archives"


def archive_urls(lines: Iterable[str]) -> tuple[str, ...]:
    """The URLs in lines of a sources.list (sources.list(5), one-line style)."""
    return tuple(match[1] for line in lines if (match := _SOURCE_LINE.match(line)))


def parse_url(url: str, what: str = "", *, userinfo: bool = False) -> Target:
    """An http or https URL.

    :param what: a message says was asked for; empty: the URL.
    :param userinfo: user and password may be in it, and are left out.
    :raises Refused: it is none.
    """
    what = what or url
    match = _URL.fullmatch(url)
    if len(url) > _URL_MAX:
        raise Refused(what, f"it is longer than {_URL_MAX} characters")
    if match is None or _NO_URL.search(url) or match["scheme"].lower() not in _PORTS:
        raise Refused(what, "it is not an http or https URL")
    scheme = match["scheme"].lower()
    _, at, authority = match["authority"].rpartition("@")
    if at and not userinfo:
        raise Refused(what, "a user or password in a URL is not let through")
    host, port = _parse_authority(authority, _PORTS[scheme], what)
    query = "" if match["query"] is None else f"?{match['query']}"
    return Target(scheme, host, port, "/" + match["path"].lstrip("/") + query)


def parse_host_port(text: str) -> tuple[tuple[str, int], ...]:
    """The places that HOST (both the usual ports) or HOST:PORT stands for.

    :raises Refused: it is neither.
    """
    places = {_parse_authority(text, port, text) for port in _PORTS.values()}
    return tuple(sorted(places))


def shown(text: str) -> str:
    """Text of a stranger's as a message shows it: printable, and short."""
    printable = "".join(character if character.isprintable() else "?" for character in text[:_SHOWN_MAX])
    return printable + ("..." if len(text) > _SHOWN_MAX else "")


def _parse_authority(text: str, default_port: int | None, what: str) -> tuple[str, int]:
    """Host and port.

    :raises Refused: it is no such thing, or has no port where there is no default.
    """
    match = _AUTHORITY.fullmatch(text)
    try:
        host = str(ipaddress.IPv6Address(match["six"])) if match and match["six"] else ""
        host = host or (match["name"].lower().removesuffix(".") if match else "")
    except ValueError:
        host = ""
    port = int(match["port"]) if match and match["port"] else default_port
    if not host or port is None or not 0 < port < 1 << 16:
        raise Refused(what, "it does not name a host and a port")
    return host, port


def _is_below(target: Target, archive: Target) -> bool:
    if (target.scheme, target.place) != (archive.scheme, archive.place):
        return False
    return unquote(target.path).startswith(unquote(archive.path))


def _check_path(what: str, path: str) -> None:
    """See that every server takes this path for one below that which it begins with.

    :raises Refused: one may not.
    """
    if "?" in path:
        raise Refused(what, "an archive's files have no query")
    if _ENCODED.search(path):
        raise Refused(what, "its path has a slash or a control character percent-encoded")
    for _ in range(_DECODED_MAX):
        # "..;x" is ".." to some.
        if any(segment.partition(";")[0] == ".." for segment in re.split(r"[/\\]", path)):
            raise Refused(what, "its path has a '..' in it")
        decoded = unquote(path)
        if decoded == path:
            return
        path = decoded
    raise Refused(what, "its path is percent-encoded again and again")


def _ip(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, where it leads to; None for a name."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        try:
            return ipaddress.IPv4Address(socket.inet_aton(address))  # 127.1, as resolvers take it.
        except (OSError, ValueError):
            return None
    if isinstance(ip, ipaddress.IPv6Address):
        inside = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else ip.ipv4_mapped or ip.sixtofour
        return inside or ip
    return ip


def _is_private(address: str) -> bool:
    """Whether it is an address in a network of somebody's own; a name counts when it is resolved."""
    ip = _ip(address)
    return ip is not None and any(ip in network for network in _PRIVATE)


def _is_local(address: str) -> bool:
    """Whether it is an address that serves this machine or its neighbours alone; a name counts when it is resolved."""
    ip = _ip(address)
    if ip is None:
        return address == "localhost" or address.endswith(".localhost")  # RFC 6761.
    return (
        ip in _METADATA
        or (ip.version == 4 and ip.packed[0] == 0)
        or ip.is_loopback
        or ip.is_link_local
        or ip.is_unspecified
        or ip.is_multicast
    )
